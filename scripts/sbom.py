#!/usr/bin/env python3
"""Lists what an unpacked package of misa-prof holds, as CycloneDX 1.5 (a "software bill of materials").

usage: scripts/sbom.py FOLDER > misa-prof.cdx.json

FOLDER is a tarball of scripts/package.sh, unpacked. Names and versions are those that its program reports of its own
build; libraries that lie in the package come with their hash. A component whose licence is not in the table below is an
error. The same package gives the same bytes; SOURCE_DATE_EPOCH is the time in it.
"""
import datetime
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import uuid

# name: (licence, package URL without version, how it gets into the package)
HEADERS, SHIPPED, STATIC, SYSTEM = ("compiled in, headers only", "a library of the package", "linked statically",
                                    "a library of the system")
COMPONENTS = {
    "oneDNN": ("Apache-2.0", "pkg:github/oneapi-src/oneDNN", SHIPPED),
    "fmt": ("MIT", "pkg:github/fmtlib/fmt", SHIPPED),
    "ocl-icd": ("BSD-2-Clause", None, SHIPPED),  # the version is that of its interface
    "nlohmann_json": ("MIT", "pkg:github/nlohmann/json", HEADERS),
    "toml++": ("MIT", "pkg:github/marzer/tomlplusplus", HEADERS),
    "CLI11": ("BSD-3-Clause", "pkg:github/CLIUtils/CLI11", HEADERS),
    "NVTX": ("Apache-2.0 WITH LLVM-exception", "pkg:github/NVIDIA/NVTX", HEADERS),
    "CUDA": ("LicenseRef-NVIDIA-CUDA", "pkg:generic/cuda-cudart", STATIC),
    "OpenMP": ("GPL-3.0-or-later WITH GCC-exception-3.1", None, SYSTEM),  # so here
}
FILES = {"oneDNN": "libdnnl.so.*", "fmt": "libfmt.so.*", "ocl-icd": "libOpenCL.so.*"}


def shipped_file(folder, name):
    """The library of a component in lib/misa-prof, or None where it is linked statically."""
    found = [path for path in sorted((folder / "lib" / "misa-prof").glob(FILES[name])) if not path.is_symlink()]
    return found[0] if found else None


def component(folder, name, version):
    if name not in COMPONENTS:
        raise SystemExit(f"sbom.py: there is no licence of '{name}'; please add it to COMPONENTS")
    licence, url, how = COMPONENTS[name]
    found = {"type": "library", "bom-ref": f"{name}@{version}", "name": name, "version": version,
             "licenses": [{"expression": licence}]}
    if url is not None:
        found["purl"] = f"{url}@{version}"
    if how == SHIPPED:
        path = shipped_file(folder, name)
        if path is None:
            how = STATIC
        else:
            found["hashes"] = [{"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}]
            found["properties"] = [{"name": "misa-prof:file", "value": str(path.relative_to(folder))}]
    found.setdefault("properties", []).append({"name": "misa-prof:how", "value": how})
    if how == SYSTEM:
        found["scope"] = "excluded"
    return found


def bill(folder):
    program = folder / "bin" / "misa-prof"
    done = subprocess.run([program, "list", "--format", "json"], capture_output=True, text=True, check=True)
    build = {entry["name"]: entry["what"] for entry in json.loads(done.stdout)["build"]}
    versions = dict(word.rsplit(" ", 1) for word in build["libraries"].split(", "))
    loader = shipped_file(folder, "ocl-icd")
    if loader is not None:
        versions["ocl-icd"] = re.search(r"\.so\.(.*)", loader.name).group(1)
    components = [component(folder, name, version) for name, version in sorted(versions.items())]
    itself = {"type": "application", "bom-ref": "misa-prof", "name": "misa-prof", "version": build["version"],
              "licenses": [{"expression": "Apache-2.0"}],
              "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(program.read_bytes()).hexdigest()}],
              "properties": [{"name": f"misa-prof:{name}", "value": build[name]}
                             for name in ("commit", "compiler", "flags", "kernels")]}
    time = datetime.datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")) or
                                           int(datetime.datetime.now().timestamp()), datetime.timezone.utc)
    content = {"metadata": {"timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": itself},
               "components": components,
               "dependencies": [{"ref": "misa-prof", "dependsOn": [entry["bom-ref"] for entry in components]}]}
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True))
    return {"$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json", "bomFormat": "CycloneDX", "specVersion": "1.5",
            "serialNumber": f"urn:uuid:{serial}", "version": 1, **content}


def main():
    if len(sys.argv) != 2 or not (pathlib.Path(sys.argv[1]) / "bin" / "misa-prof").exists():
        raise SystemExit(__doc__.split("\n\n")[1])
    print(json.dumps(bill(pathlib.Path(sys.argv[1])), indent=2))


if __name__ == "__main__":
    main()
