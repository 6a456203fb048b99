#!/usr/bin/env python3
"""The layout of misa_kernel.h is the one of its version, and the header is C99 and C++.

usage: layout_test.py           compares sizes, offsets and numbers with layout-VERSION.json
       layout_test.py --write   writes that file: of a new version, or where fields were added behind the last one

The compiler says what the layout is: a program is made of the names that the header declares.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEADER = HERE.parents[1] / "backends" / "plugin" / "misa_kernel.h"


def without_comments(text):
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.S)


def field_names(declaration):
    """The names of `int64_t a, *b`, or of a pointer to a function."""
    function = re.search(r"\(\s*\*\s*(\w+)\s*\)\s*\(", declaration)
    if function:
        return [function.group(1)]
    first, *others = declaration.split(",")
    return [re.search(r"(\w+)\s*$", part).group(1) for part in (first, *others)]


def structs(text):
    found = re.findall(r"typedef\s+struct\s+(\w+)\s*\{(.*?)\}\s*\w+\s*;", text, re.S)
    return {name: [field for one in body.split(";") if one.strip() for field in field_names(one)] for name, body in found}


def numbers(text):
    bodies = re.findall(r"\benum\s*\{(.*?)\}", text, re.S)
    return [re.match(r"\s*(\w+)", part).group(1) for body in bodies for part in body.split(",")]


def measured(text):
    """What a C compiler says of every name."""
    lines = []
    for name, fields in structs(text).items():
        lines.append(f'printf("%s size %zu\\n", "{name}", sizeof({name}));')
        lines += [f'printf("%s %s %zu %zu\\n", "{name}", "{field}", offsetof({name}, {field}), '
                  f'sizeof((({name}*)0)->{field}));' for field in fields]
    lines += [f'printf("= %s %d\\n", "{name}", (int){name});' for name in ["MISA_KERNEL_VERSION", *numbers(text)]]
    program = "#include <stdio.h>\n#include \"misa_kernel.h\"\nint main(void) {\n" + "\n".join(lines) + "\nreturn 0;\n}\n"
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder) / "layout.c", Path(folder) / "layout"
        source.write_text(program, encoding="utf-8")
        compile_with([os.environ.get("CC", "cc"), "-std=c99"], source, binary)
        cpp = Path(folder) / "layout.cpp"
        cpp.write_text('#include "misa_kernel.h"\nint main() { return 0; }\n', encoding="utf-8")
        for standard in ("-std=c++98", "-std=c++20"):
            compile_with([os.environ.get("CXX", "c++"), standard, "-Wno-long-long"], cpp, Path(folder) / "layout_cpp")
        output = subprocess.run([binary], check=True, capture_output=True, text=True).stdout
    layout = {"structs": {}, "numbers": {}}
    for line in output.splitlines():
        words = line.split()
        if words[0] == "=":
            layout["numbers"][words[1]] = int(words[2])
        elif words[1] == "size" and len(words) == 3:
            layout["structs"][words[0]] = {"size": int(words[2]), "fields": {}}
        else:
            layout["structs"][words[0]]["fields"][words[1]] = [int(words[2]), int(words[3])]
    return layout


def compile_with(command, source, binary):
    strict = ["-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{HEADER.parent}"]
    done = subprocess.run([*command, *strict, source, "-o", binary], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"the header does not compile by {' '.join(command)}:\n{done.stderr}")


def differences(known, found):
    """What is not as it was, in words. Fields behind the last one of a struct that begins with its size are no
    difference, nor are new structs and numbers."""
    for name, value in known["numbers"].items():
        if found["numbers"].get(name) != value:
            yield f"{name} was {value} and is {found['numbers'].get(name)}"
    for name, struct in known["structs"].items():
        now = found["structs"].get(name)
        if now is None:
            yield f"struct {name} is gone"
            continue
        for field, place in struct["fields"].items():
            if now["fields"].get(field) != place:
                yield f"{name}.{field} was at {place} and is at {now['fields'].get(field)} (offset, size)"
        added = [field for field in now["fields"] if field not in struct["fields"]]
        last = max(offset for offset, _ in struct["fields"].values())
        behind = all(now["fields"][field][0] > last for field in added)
        if (added or now["size"] != struct["size"]) and not (behind and "size" in struct["fields"]):
            yield f"{name} has {now['size']} bytes, not {struct['size']}, and more fields: {', '.join(added) or 'none'}"


def self_test(known):
    """Every kind of change is seen."""
    def changed(change):
        other = json.loads(json.dumps(known))
        change(other)
        return list(differences(known, other))

    tasks, plain = known["structs"]["misa_score_task"], known["structs"]["misa_queries"]
    assert "size" in tasks["fields"] and "size" not in plain["fields"]
    assert not changed(lambda other: None)
    assert changed(lambda other: other["numbers"].update(MISA_E4M3=3))
    assert changed(lambda other: other["structs"].pop("misa_keys"))
    assert changed(lambda other: other["structs"]["misa_queries"]["fields"].update(dim=[24, 8]))
    assert changed(lambda other: other["structs"]["misa_queries"]["fields"].update(new=[plain["size"], 8]))
    assert changed(lambda other: other["structs"]["misa_queries"].update(size=plain["size"] + 8))
    assert not changed(lambda other: other["structs"]["misa_score_task"]["fields"].update(new=[tasks["size"], 8]))
    assert changed(lambda other: other["structs"]["misa_score_task"]["fields"].update(new=[4, 4]))


def main():
    text = without_comments(HEADER.read_text(encoding="utf-8"))
    found = measured(text)
    version = found["numbers"]["MISA_KERNEL_VERSION"]
    path = HERE / f"layout-{version}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    changes = list(differences(known, found)) if known else []
    if changes:
        sys.exit("misa_kernel.h changed, and MISA_KERNEL_VERSION did not:\n  " + "\n  ".join(changes))
    if "--write" in sys.argv[1:]:
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return
    if known != found:
        sys.exit(f"{path.name} does not hold all of misa_kernel.h: layout_test.py --write")
    self_test(known)
    print(f"version {version}: {len(found['structs'])} structs, {len(found['numbers'])} numbers")


if __name__ == "__main__":
    main()
