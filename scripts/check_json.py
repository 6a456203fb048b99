#!/usr/bin/env python3
"""Checks result files of misa-prof: strict JSON, and the published schema that their "schema" names.

    scripts/check_json.py result.json run.jsonl -          # - is standard output of misa-prof, piped in

Refuses NaN, Infinity, duplicate keys, invalid UTF-8, a byte-order mark and text behind the document. Of JSON Lines it
puts the records together first; a file without a footer is refused unless --allow-cut-off.
Exit status: 0 all files are valid, 1 one is not, 2 usage.
"""

import argparse
import functools
import json
import pathlib
import sys

import jsonschema

SCHEMAS = pathlib.Path(__file__).resolve().parent.parent / "docs" / "schema"
KINDS = {f"misa-prof/{kind}": SCHEMAS / f"{kind}-1.0.schema.json" for kind in ("result", "agreement", "diff", "doctor", "niah", "sweep", "layers")}


class Refused(Exception):
    pass


def object_without_duplicates(pairs):
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise Refused(f"key {key!r} occurs {keys.count(key)} times in one object")
    return dict(pairs)


def refuse_constant(name):
    raise Refused(f"{name} is not JSON")


def finite_float(text):
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise Refused(f"{text} does not fit a double")
    return value


def parse(text):
    try:
        return json.loads(
            text,
            object_pairs_hook=object_without_duplicates,
            parse_constant=refuse_constant,
            parse_float=finite_float,
        )
    except json.JSONDecodeError as error:
        raise Refused(f"not JSON: {error}") from error


def from_lines(text, allow_cut_off):
    """The document that the records of JSON Lines amount to."""
    if not text.endswith("\n"):
        if not allow_cut_off:
            raise Refused("the last line is cut off")
        text = text[: text.rfind("\n") + 1]
    records = [parse(line) for line in text.splitlines()]
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict) or "record" not in record:
            raise Refused(f"line {number} is no record")
    if not records or records[0]["record"] != "header":
        raise Refused("the first record is no header")
    document = {key: value for key, value in records[0].items() if key != "record"}
    footer = records.pop() if len(records) > 1 and records[-1]["record"] == "footer" else None
    document["cases"] = []
    for number, record in enumerate(records[1:], 2):
        if record["record"] != "case" or "case" not in record:
            raise Refused(f"line {number}: a case was expected")
        # Of a sweep the case is a part of the record, of a profile all of it.
        one = {key: value for key, value in record.items() if key != "record"}
        document["cases"].append(one["case"] if set(one) == {"case"} else one)
    if footer is None:
        if not allow_cut_off:
            raise Refused("there is no footer: the run was cut off")
        return {**document, "skipped": [], "warnings": [], "complete": False}
    if footer.get("cases") != len(document["cases"]):
        raise Refused(f"the footer counts {footer.get('cases')} cases, there are {len(document['cases'])}")
    document.update({key: value for key, value in footer.items() if key not in ("record", "cases")})
    return document


def refuse_other_meaning(document):
    """What a schema cannot say."""
    if list(document)[-1] != "complete":
        raise Refused("'complete' is not the last key")


def with_others(text):
    """A schema of that text, in which the definitions of other schemas that it refers to are its own."""
    definitions = {}
    for path in SCHEMAS.glob("*.json"):
        other = json.loads(path.read_text(encoding="utf-8"))
        if f'"{other["$id"]}#' in text:
            definitions.update(other["$defs"])
            text = text.replace(f'"{other["$id"]}#', '"#')
    schema = json.loads(text)
    if definitions:
        schema["$defs"] = {**definitions, **schema["$defs"]}
    return schema


@functools.cache
def validator(path):
    schema = with_others(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def schema_of(document):
    kind = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise Refused(f"'schema' is {kind!r}, not one of {', '.join(KINDS)}")
    return KINDS[kind]


def check(name, schema, allow_cut_off):
    data = sys.stdin.buffer.read() if name == "-" else pathlib.Path(name).read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(f"not UTF-8: {error}") from error
    lines = text.splitlines()
    is_lines = name.endswith(".jsonl") or (bool(lines) and lines[0].startswith('{"record":'))
    document = from_lines(text, allow_cut_off) if is_lines else parse(text)
    checker = validator(schema or schema_of(document))
    errors = sorted(checker.iter_errors(document), key=lambda error: list(map(str, error.absolute_path)))
    if errors:
        where = "/".join(map(str, errors[0].absolute_path)) or "the document"
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise Refused(f"{where}: {errors[0].message}{more}")
    refuse_other_meaning(document)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE", help="result file, or - for standard input")
    parser.add_argument("--schema", type=pathlib.Path, help="instead of the one that the file names")
    parser.add_argument("--allow-cut-off", action="store_true", help="accept JSON Lines without a footer")
    options = parser.parse_args()
    failed = False
    for name in options.files:
        try:
            check(name, options.schema, options.allow_cut_off)
        except (Refused, OSError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
