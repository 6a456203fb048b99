#pragma once

#include <string>
#include <string_view>
#include <vector>

// What all drawings share: markup, colours, and the <svg> around marks. No drawing needs a script, a font or a network.
namespace misa::chart {

/// Width of a drawing: that of a telephone, so that text is readable there. Wider places scale it.
constexpr double kWidth = 360;
/// Size of the text, in the same units.
constexpr double kTextSize = 11;
/// Series have one of so many colours and shapes.
constexpr int kStyles = 8;

/// `text` as the content of an element or of a quoted attribute, in XML and in HTML: & < > " ' are references, what XML
/// cannot hold is U+FFFD (xml_characters).
std::string escaped(std::string_view text);

/// "12.5": one decimal, none where it is 0.
std::string coordinate(double value);

/// About how wide `text` is drawn.
double text_width(std::string_view text);

/// `text`, its end replaced by an ellipsis where it is wider than `width`.
std::string fitted(std::string_view text, double width);

/// Marks of a drawing whose texts need no escaping by the caller.
///
/// Colours are classes of `style_sheet`: "s0" to "s7" choose the series, "mark", "line", "bar", "band" how it is
/// drawn. A tip is shown by a browser where the pointer rests.
class Marks {
 public:
  void line(double x1, double y1, double x2, double y2, std::string_view css);
  void rect(double x, double y, double width, double height, std::string_view css, std::string_view tip = {},
            std::string_view fill = {});
  void path(const std::string& commands, std::string_view css, std::string_view tip = {});
  void text(double x, double y, std::string_view text, std::string_view css = {});
  /// Text that is read upwards, its middle at (x, y).
  void upright_text(double x, double y, std::string_view text);
  /// The shape and the colour of series `style`; hollow where not `filled`.
  void marker(double x, double y, int style, bool filled, std::string_view tip = {});

  const std::string& markup() const { return markup_; }

 private:
  std::string markup_;
};

/// A drawing.
struct Figure {
  std::string title{};        ///< what it shows: the accessible name
  std::string description{};  ///< what is to be seen: for those who do not see it
  double width = kWidth, height = 0;
  std::string marks{};  ///< markup
};

/// Colours of light and dark, by prefers-color-scheme, and the classes of marks. Printing uses the light ones.
std::string_view style_sheet();

/// The figure in a page that has `style_sheet`. `id` is unique there; it needs no escaping.
std::string inline_svg(const Figure& figure, std::string_view id);

/// The figure as a file of its own, with its title drawn above it.
std::string standalone_svg(const Figure& figure);

/// A series in a legend.
struct LegendEntry {
  enum class Form { marker, hollow, line, dashed, bar };
  std::string name{};
  int style = 0;
  Form form = Form::marker;
};

/// Entries side by side, in lines of at most `width` from (x, y) down; the height that they take.
double draw_legend(Marks& marks, const std::vector<LegendEntry>& entries, double x, double y, double width);

}  // namespace misa::chart
