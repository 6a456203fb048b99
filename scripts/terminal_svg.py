#!/usr/bin/env python3
"""Runs a command and draws it and its coloured output as an SVG picture (docs/profile.svg in README.md).

usage: scripts/terminal_svg.py FOLDER COMMAND... > docs/profile.svg      FOLDER: where the program is
       scripts/terminal_svg.py build/release/cli misa-prof profile --indexer dsa,misa,misa-lr > docs/profile.svg
"""
import html
import os
import re
import shlex
import subprocess
import sys

COLOURS = {"31": "#ff7b72", "32": "#7ee787", "33": "#e3b341", "34": "#79c0ff", "35": "#d2a8ff", "36": "#76e3ea"}
FOREGROUND, BACKGROUND, FAINT = "#e6edf3", "#0d1117", "#8b949e"
CELL, LINE, MARGIN = 8.43, 18, 16


def spans(line):
    """Runs of equal style: (column, text, css attributes)."""
    colour, bold, column = FOREGROUND, False, 0
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        code = re.fullmatch(r"\x1b\[([0-9;]*)m", part)
        if not code:
            if part:
                yield column, part, f'fill="{colour}"' + (' font-weight="bold"' if bold else "")
            column += len(part)
            continue
        for number in code.group(1).split(";"):
            if number in ("", "0"):
                colour, bold = FOREGROUND, False
            elif number == "1":
                bold = True
            elif number == "2":
                colour = FAINT
            else:
                colour = COLOURS.get(number, colour)


def main():
    command = sys.argv[2:]
    shown = subprocess.run([os.path.join(sys.argv[1], command[0]), *command[1:], "--color", "always"], check=True,
                           capture_output=True, text=True).stdout
    lines = [f"$ \x1b[1m{shlex.join(command)}\x1b[0m", *shown.rstrip("\n").split("\n")]
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    width = 2 * MARGIN + CELL * max(map(len, plain))
    height = 2 * MARGIN + LINE * len(lines)
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
          f'viewBox="0 0 {width:.0f} {height}" role="img" aria-label="Output of {html.escape(shlex.join(command))}">')
    print(f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>')
    print('<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="14">')
    for number, line in enumerate(lines):
        for column, text, style in spans(line):
            if text.strip():
                shown = text.lstrip(" ")
                column += len(text) - len(shown)
                shown = shown.rstrip(" ")
                print(f'<text x="{MARGIN + CELL * column:.1f}" y="{MARGIN + LINE * (number + 0.75):.1f}" {style} '
                      f'textLength="{CELL * len(shown):.1f}" lengthAdjust="spacingAndGlyphs" '
                      f'xml:space="preserve">{html.escape(shown)}</text>')
    print("</g>\n</svg>")


if __name__ == "__main__":
    main()
