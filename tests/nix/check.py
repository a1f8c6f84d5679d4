"""Checks of the NixOS module: by evaluation where there is Nixpkgs' `lib`, by what the last evaluation wrote where there is
none. See `run`."""

import ast
import builtins
import difflib
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

from nix import CHECKOUT, HERE, Nix

GOLDEN = HERE / "golden"
OPTIONS = CHECKOUT / "docs" / "options.md"
HASH = GOLDEN / "inputs.sha256"


def inputs():
    """Everything that an evaluation reads."""
    places = [CHECKOUT / "nix", HERE, CHECKOUT / "flake.nix", CHECKOUT / "flake.lock"]
    for place in places:
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.is_file() and GOLDEN not in file.parents and file.suffix in (".nix", ".lock", ".service", ".socket", ".conf"):
                yield file


def hash_of_inputs():
    total = hashlib.sha256()
    for file in inputs():
        text = file.read_bytes()
        total.update(f"{file.relative_to(CHECKOUT)} {len(text)}\n".encode() + text)
    return total.hexdigest()


def evaluated(nix):
    """All files that an evaluation makes, {path: text}, and complaints about configurations that weren't refused."""
    files, complaints = {}, []
    cases, said = nix.evaluate("cases")
    if said:
        return {}, [f"a good configuration is refused: {said}"]
    for case, rendered in cases.items():
        files |= {GOLDEN / case / name: text for name, text in rendered.items()}
    broken, said = nix.evaluate("broken")
    if said:
        return {}, [said]
    lines = []
    for name, one in broken.items():
        messages = one["said"]
        if messages is None:
            messages = [first_line(nix.evaluate(f"complaint.{name}")[1] or "")]
        if not any(one["says"] in message for message in messages):
            complaints.append(f"broken.{name}: not refused with {one['says']!r}, but: {messages}")
        lines += [f"{name}:"] + [f"  {line}" for message in messages for line in message.splitlines()]
    files[GOLDEN / "refusals"] = "\n".join(lines) + "\n"
    options, said = nix.evaluate("options")
    if said:
        return {}, [said]
    files[OPTIONS] = options
    files[HASH] = hash_of_inputs() + "\n"
    return files, complaints


def first_line(message):
    return message.removeprefix("error: ").split("\n")[0].rstrip()


def kept():
    """The files that the last evaluation made."""
    return {file for file in GOLDEN.rglob("*") if file.is_file()} | {OPTIONS}


def compare(files):
    for file in sorted(kept() | set(files)):
        name = file.relative_to(CHECKOUT)
        if file not in files:
            yield f"{name}: no evaluation makes this; tests/nix/run --write takes it away"
            continue
        old = file.read_text() if file.exists() else ""
        if old != files[file]:
            change = difflib.unified_diff(old.splitlines(), files[file].splitlines(), str(name), "evaluated", lineterm="", n=1)
            yield f"{name} is not what evaluates now; tests/nix/run --write, then read the difference\n" + "\n".join(list(change)[:40])


def write(files):
    for file in kept() - set(files):
        file.unlink()
    for file, text in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def unchanged():
    """Without `lib`: what was evaluated is what is here now."""
    if not HASH.exists() or HASH.read_text().strip() != hash_of_inputs():
        yield (
            "nix/, tests/nix or the flake has changed since tests/nix/golden was made: evaluate with lib first\n"
            "  NIXPKGS_LIB=DIRECTORY tests/nix/run --write   (the directory `lib` of Nixpkgs, or of nix-community/nixpkgs.lib)"
        )


def directives(text):
    """Of a unit's text, what there is to hold: everything but comments, ordering of installation, and the program's path."""
    section, found = "", []
    for line in text.splitlines():
        if line.startswith("["):
            section = line
        elif line and line[0] not in "#;" and section != "[Install]":
            key, value = line.split("=", 1)
            value = re.sub(r"^\S*/bin/csm ", "csm ", value)
            # NixOS writes one variable in each line, quoted.
            words = value.replace('"', "").split() if key == "Environment" else [value]
            found += [(section, key, word) for word in words]
    return set(found)


def units_are_those_of_the_source():
    """nix/units is what Debian and the lab run; the module may add to it, and take nothing away."""
    for file in sorted((CHECKOUT / "nix" / "units").glob("code-server-multi*.[s]*")):
        golden = GOLDEN / "minimal" / file.name
        if not golden.exists():
            yield f"{golden.relative_to(CHECKOUT)} is missing"
            continue
        lost = directives(file.read_text()) - directives(golden.read_text())
        more = {(key, value.split("=")[0]) for _, key, value in directives(golden.read_text()) - directives(file.read_text())}
        if lost:
            yield f"{file.name}: the module loses {sorted(lost)}"
        if not more <= {("Environment", "PATH"), ("X-Reload-Triggers", "/nix/store/00000000000000000000000000000000-code-server-multi-config.toml")}:
            yield f"{file.name}: the module adds {sorted(more)}"


def the_document_shows_what_is_evaluated():
    shown = re.findall(r"^```nix configuration\n(.*?)^```$", (CHECKOUT / "docs" / "nixos.md").read_text(), re.M | re.S)
    if shown != [(HERE / "cases" / "vps.nix").read_text()]:
        yield "docs/nixos.md: its configuration is not tests/nix/cases/vps.nix"


def examples_are_nix(nix):
    for document in [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]:
        # `defaults` and `users.<name>` have the same examples.
        for text in sorted(set(re.findall(r"^```nix\b.*?\n(.*?)^```$", document.read_text(), re.M | re.S))):
            if not nix.parses(text):
                yield f"{document.relative_to(CHECKOUT)}: this is no Nix:\n{text}"


# What NixOS's test driver gives to a script.
DRIVER = {"machine", "subtest"}


def unknown_names(text):
    """Names that a script uses and nobody defines."""
    tree = compile(text, "script", "exec", ast.PyCF_ONLY_AST)
    compile(tree, "script", "exec")
    known, used = set(dir(builtins)) | DRIVER, set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                used.add(name)
            case ast.Name(id=name) | ast.FunctionDef(name=name) | ast.arg(arg=name) | ast.alias(name=name):
                known.add(name)
    return used - known


def scripts_are_sound():
    """Scripts of the VM tests: they can't run here, but they are Python, know what they name, and each has its test."""
    place = CHECKOUT / "nix" / "tests"
    scripts = {file.stem: file.read_text() for file in place.glob("*.py")}
    tests = {file.stem for file in place.glob("*.nix")}
    for name in sorted(scripts.keys() ^ tests):
        yield f"nix/tests/{name}: a test is a .nix and a .py of the same name"
    common = scripts.pop("common", "")
    for name, text in scripts.items():
        try:
            unknown = unknown_names(common + text)
        except SyntaxError as error:
            yield f"nix/tests/{name}.py: {error.msg}: {error.text}"
        else:
            if unknown:
                yield f"nix/tests/{name}.py: nobody defines {', '.join(sorted(unknown))}"


def tool(*argv):
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True)
    if done.returncode:
        yield f"{Path(argv[0]).name}:\n{done.stdout}{done.stderr}"


def sources_are_clean():
    files = [str(file.relative_to(CHECKOUT)) for file in inputs() if file.suffix == ".nix"]
    yield from tool(os.environ["NIXFMT"], "--check", *files)
    yield from tool(os.environ["DEADNIX"], "--fail", *files)


def main():
    complaints = []
    if os.environ.get("NIX_LIB"):
        with Nix() as nix:
            files, complaints = evaluated(nix)
            if "--write" in sys.argv and not complaints:
                write(files)
            complaints += compare(files) if files else []
            complaints += [*nix.check_flake(), *examples_are_nix(nix)]
        how = "evaluated with " + os.environ["NIX_LIB"]
    elif "--write" in sys.argv:
        complaints = ["--write needs Nixpkgs' lib: set NIXPKGS_LIB"]
        how = ""
    else:
        complaints = list(unchanged())
        how = "not evaluated, since there is no lib here; nothing has changed since the last evaluation"
    for check in (units_are_those_of_the_source, the_document_shows_what_is_evaluated, scripts_are_sound, sources_are_clean):
        complaints += check()
    if complaints:
        sys.exit("\n\n".join(complaints))
    cases = sum(1 for place in GOLDEN.iterdir() if place.is_dir())
    refusals = sum(1 for line in (GOLDEN / "refusals").read_text().splitlines() if line[:1].strip())
    print(f"nix: {cases} configurations, {refusals} refusals; {how}")


if __name__ == "__main__":
    main()
