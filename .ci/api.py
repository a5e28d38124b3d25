#!/usr/bin/env python3
"""The public API of the crates that are meant for others, as text: one line for each item, sorted, in `crates/*/api.txt`.

    python3 .ci/api.py             compares, shows what differs, and fails if something does
    python3 .ci/api.py --write     writes the files anew, for a change that is meant

The files are reviewed like code: a line that goes or changes breaks somebody, a line that comes is a promise. They are made from
what rustdoc says in JSON, with the features that are named below; what has `#[doc(hidden)]` is no part of it, and neither are
implementations that the compiler gives by itself or that hold for every type.
"""

import argparse
import difflib
import json
import os
import pathlib
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
CRATES = {"types": [], "record": ["zstd"], "log": [], "broker": ["testing"], "client": ["zstd", "tls"]}
# rustdoc says so itself, in the file; another number may mean another meaning.
FORMATS = range(50, 70)


class Listing:
    def __init__(self, document):
        if document["format_version"] not in FORMATS:
            sys.exit(f"rustdoc writes format {document['format_version']}, .ci/api.py knows {FORMATS.start} to {FORMATS.stop - 1}")
        self.index, self.paths = document["index"], document["paths"]
        self.lines = set()
        root = self.index[str(document["root"])]
        self.module(root, root["name"])

    # ---- items

    def module(self, item, path):
        for each in item["inner"]["module"]["items"]:
            self.item(self.index.get(str(each)), path)

    def item(self, item, parent):
        if item is None or item["visibility"] not in ("public", "default"):
            return
        (kind, inner), = item["inner"].items()
        if kind == "use":
            return self.use(inner, parent)
        path = f"{parent}::{item['name']}"
        handler = getattr(self, f"item_{kind}", None)
        if handler is None:
            sys.exit(f"{path} is a {kind}, which .ci/api.py does not know")
        handler(item, inner, path)

    def use(self, inner, parent):
        target = self.index.get(str(inner["id"]))
        if target is None:
            self.lines.add(f"pub use {parent}::{inner['name']} = {inner['source']}")
        elif inner["is_glob"]:
            self.module(target, parent)
        else:
            self.item({**target, "name": inner["name"], "visibility": "public"}, parent)

    def item_module(self, item, inner, path):
        self.lines.add(f"pub mod {path}")
        self.module(item, path)

    def item_function(self, item, inner, path):
        self.lines.add(self.function(item, inner, path))

    def item_constant(self, item, inner, path):
        self.lines.add(f"pub const {path}: {self.type(inner['type'])}")

    def item_static(self, item, inner, path):
        self.lines.add(f"pub static {path}: {self.type(inner['type'])}")

    def item_macro(self, item, inner, path):
        self.lines.add(f"macro {path}!")

    def item_type_alias(self, item, inner, path):
        self.lines.add(f"pub type {path}{self.generics(inner['generics'])} = {self.type(inner['type'])}")

    def item_struct(self, item, inner, path):
        generics, where = self.generics(inner["generics"]), self.where(inner["generics"])
        (shape, fields), = inner["kind"].items() if isinstance(inner["kind"], dict) else [("unit", None)]
        shown = ""
        if shape == "tuple":
            types = [self.index.get(str(field)) if field is not None else None for field in fields]
            types = [f"pub {self.type(f['inner']['struct_field'])}" if f and f["visibility"] == "public" else "_" for f in types]
            shown = f"({', '.join(types)})"
        elif shape == "plain":
            shown = " { .. }" if fields["has_stripped_fields"] else ""
            self.fields(fields["fields"], path)
        self.lines.add(f"{self.attributes(item)}pub struct {path}{generics}{shown}{where}")
        self.impls(inner["impls"], path)

    def item_union(self, item, inner, path):
        self.lines.add(f"pub union {path}")
        self.impls(inner["impls"], path)

    def item_enum(self, item, inner, path):
        self.lines.add(f"{self.attributes(item)}pub enum {path}{self.generics(inner['generics'])}{self.where(inner['generics'])}")
        for each in inner["variants"]:
            variant = self.index[str(each)]
            kind, name = variant["inner"]["variant"]["kind"], f"{path}::{variant['name']}"
            shown = ""
            if isinstance(kind, dict) and "tuple" in kind:
                types = [self.type(self.index[str(f)]["inner"]["struct_field"]) if f is not None else "_" for f in kind["tuple"]]
                shown = f"({', '.join(types)})"
            elif isinstance(kind, dict):
                self.fields(kind["struct"]["fields"], name, "")
                shown = " { .. }"
            self.lines.add(f"{self.attributes(variant)}variant {name}{shown}")
        self.impls(inner["impls"], path)

    def item_trait(self, item, inner, path):
        bounds = self.bounds(inner["bounds"])
        self.lines.add(f"pub trait {path}{self.generics(inner['generics'])}{': ' + bounds if bounds else ''}{self.where(inner['generics'])}")
        for each in inner["items"]:
            member = self.index.get(str(each))
            if member is None:
                continue
            (kind, what), = member["inner"].items()
            name = f"{path}::{member['name']}"
            if kind == "function":
                provided = " { .. }" if what["has_body"] else ""
                self.lines.add(self.function(member, what, name, "") + provided)
            elif kind == "assoc_type":
                bounds = self.bounds(what["bounds"])
                self.lines.add(f"type {name}{': ' + bounds if bounds else ''}")
            elif kind == "assoc_const":
                self.lines.add(f"const {name}: {self.type(what['type'])}")

    def fields(self, fields, path, visibility="pub "):
        for each in fields:
            field = self.index.get(str(each))
            if field is not None and (not visibility or field["visibility"] == "public"):
                self.lines.add(f"{visibility}field {path}::{field['name']}: {self.type(field['inner']['struct_field'])}")

    def impls(self, impls, path):
        for each in impls:
            item = self.index.get(str(each))
            inner = item["inner"]["impl"] if item else None
            if inner is None or inner["blanket_impl"] is not None:
                continue
            # Of what the compiler gives by itself only what is missing, and somebody may want.
            if inner["is_synthetic"] and not (inner["is_negative"] and inner["trait"]["path"] in ("Send", "Sync", "Unpin")):
                continue
            if inner["trait"] is not None:
                generics, where = self.generics(inner["generics"]), self.where(inner["generics"])
                negative = "!" if inner["is_negative"] else ""
                trait = self.path(inner["trait"])
                if "derive" not in trait and not trait.startswith("StructuralPartialEq"):
                    self.lines.add(f"impl{generics} {negative}{trait} for {self.named(inner['for'], path)}{where}")
                continue
            for member in inner["items"]:
                member = self.index.get(str(member))
                if member is None or member["visibility"] != "public":
                    continue
                (kind, what), = member["inner"].items()
                name = f"{path}::{member['name']}"
                if kind == "function":
                    self.lines.add(self.function(member, what, name))
                elif kind == "assoc_const":
                    self.lines.add(f"pub const {name}: {self.type(what['type'])}")

    def attributes(self, item):
        text = json.dumps(item["attrs"])
        return "#[non_exhaustive] " if "non_exhaustive" in text else ""

    def function(self, item, inner, path, visibility="pub "):
        header, signature = inner["header"], inner["sig"]
        words = "".join(f"{word} " for word in ("const", "async", "unsafe") if header[f"is_{word}"])
        must_use = "#[must_use] " if "must_use" in json.dumps(item["attrs"]) else ""
        inputs = ", ".join(self.input(name, kind) for name, kind in signature["inputs"])
        output = f" -> {self.type(signature['output'])}" if signature["output"] else ""
        return f"{must_use}{visibility}{words}fn {path}{self.generics(inner['generics'])}({inputs}){output}{self.where(inner['generics'])}"

    def input(self, name, kind):
        is_itself = lambda kind: kind == {"generic": "Self"}
        if name == "self" and is_itself(kind):
            return "self"
        if name == "self" and "borrowed_ref" in kind and is_itself(kind["borrowed_ref"]["type"]):
            return self.type(kind).replace("Self", "self")
        return f"{name}: {self.type(kind)}"

    # ---- types

    def named(self, kind, path):
        """The type for which something is implemented; the one that is listed goes by its path."""
        text = self.type(kind)
        last = path.rsplit("::", 1)[-1]
        return text.replace(last, path, 1) if text.split("<")[0] == last else text

    def type(self, kind):
        if isinstance(kind, str):
            return "_"
        (what, inner), = kind.items()
        return getattr(self, f"type_{what}")(inner)

    def type_resolved_path(self, inner):
        return self.path(inner)

    def type_generic(self, inner):
        return inner

    type_primitive = type_generic

    def type_tuple(self, inner):
        return f"({', '.join(map(self.type, inner))}{',' if len(inner) == 1 else ''})"

    def type_slice(self, inner):
        return f"[{self.type(inner)}]"

    def type_array(self, inner):
        return f"[{self.type(inner['type'])}; {inner['len']}]"

    def type_impl_trait(self, inner):
        return f"impl {self.bounds(inner)}"

    def type_raw_pointer(self, inner):
        return f"*{'mut' if inner['is_mutable'] else 'const'} {self.type(inner['type'])}"

    def type_borrowed_ref(self, inner):
        lifetime = f"{inner['lifetime']} " if inner["lifetime"] else ""
        return f"&{lifetime}{'mut ' if inner['is_mutable'] else ''}{self.type(inner['type'])}"

    def type_qualified_path(self, inner):
        trait = inner["trait"]
        if not trait or not trait["path"]:
            return f"{self.type(inner['self_type'])}::{inner['name']}"
        return f"<{self.type(inner['self_type'])} as {self.path(trait)}>::{inner['name']}{self.arguments(inner['args'])}"

    def type_dyn_trait(self, inner):
        traits = [self.binder(each["generic_params"]) + self.path(each["trait"]) for each in inner["traits"]]
        return "dyn " + " + ".join(traits + ([inner["lifetime"]] if inner["lifetime"] else []))

    def type_function_pointer(self, inner):
        inputs = ", ".join(self.type(kind) for _, kind in inner["sig"]["inputs"])
        output = f" -> {self.type(inner['sig']['output'])}" if inner["sig"]["output"] else ""
        return f"{self.binder(inner['generic_params'])}fn({inputs}){output}"

    def path(self, path):
        """By its last word: where it is from does not change what it is, and its module may move."""
        name = (path.get("path") or path.get("name") or "?").rsplit("::", 1)[-1]
        return name + self.arguments(path["args"])

    def arguments(self, arguments):
        if not arguments:
            return ""
        (kind, inner), = arguments.items() if isinstance(arguments, dict) else [("return_type_notation", None)]
        if kind == "parenthesized":
            output = f" -> {self.type(inner['output'])}" if inner["output"] else ""
            return f"({', '.join(map(self.type, inner['inputs']))}){output}"
        if kind != "angle_bracketed":
            return "(..)"
        shown = [self.argument(each) for each in inner["args"]]
        for constraint in inner["constraints"]:
            (how, what), = constraint["binding"].items()
            value = f" = {self.term(what)}" if how == "equality" else f": {self.bounds(what)}"
            shown.append(constraint["name"] + value)
        return f"<{', '.join(shown)}>" if shown else ""

    def argument(self, argument):
        if isinstance(argument, str):
            return "_"
        (kind, inner), = argument.items()
        return inner if kind == "lifetime" else inner["expr"] if kind == "const" else self.type(inner)

    def term(self, term):
        return self.type(term["type"]) if "type" in term else term["constant"]["expr"]

    def bounds(self, bounds):
        shown = []
        for bound in bounds:
            (kind, inner), = bound.items()
            if kind == "trait_bound":
                mark = {"maybe": "?"}.get(inner["modifier"], "")
                shown.append(self.binder(inner["generic_params"]) + mark + self.path(inner["trait"]))
            elif kind == "outlives":
                shown.append(inner)
            else:
                captured = ", ".join(str(next(iter(each.values()))) if isinstance(each, dict) else each for each in inner)
                shown.append(f"use<{captured}>")
        return " + ".join(shown)

    def binder(self, params):
        return f"for<{', '.join(param['name'] for param in params)}> " if params else ""

    def generics(self, generics):
        shown = []
        for param in generics["params"]:
            (kind, inner), = param["kind"].items()
            if kind == "lifetime":
                outlives = inner["outlives"]
                shown.append(param["name"] + (": " + " + ".join(outlives) if outlives else ""))
            elif kind == "const":
                shown.append(f"const {param['name']}: {self.type(inner['type'])}")
            elif not inner["is_synthetic"]:
                bounds = self.bounds(inner["bounds"])
                default = f" = {self.type(inner['default'])}" if inner["default"] else ""
                shown.append(param["name"] + (f": {bounds}" if bounds else "") + default)
        return f"<{', '.join(shown)}>" if shown else ""

    def where(self, generics):
        shown = []
        for predicate in generics["where_predicates"]:
            (kind, inner), = predicate.items()
            if kind == "bound_predicate":
                shown.append(f"{self.binder(inner['generic_params'])}{self.type(inner['type'])}: {self.bounds(inner['bounds'])}")
            elif kind == "lifetime_predicate":
                shown.append(f"{inner['lifetime']}: {' + '.join(inner['outlives'])}")
            else:
                shown.append(f"{self.type(inner['lhs'])} = {self.term(inner['rhs'])}")
        return f" where {', '.join(shown)}" if shown else ""


def listing(crate, features):
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    command = ["cargo", "rustdoc", "--quiet", "--lib", "-p", f"tidelog-{crate}"]
    command += ["--features", ",".join(features)] if features else []
    command += ["--", "-Z", "unstable-options", "--output-format", "json", "--cap-lints", "allow"]
    environment = {**os.environ, "RUSTDOC": str(REPOSITORY / ".ci/rustdoc-json")}
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True)
    document = json.loads((target / "doc" / f"tidelog_{crate}.json").read_text())
    return sorted(Listing(document).lines, key=lambda line: (line.split("tidelog_", 1)[-1], line))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the files anew")
    options = parser.parse_args()
    differs = False
    for crate, features in CRATES.items():
        path = REPOSITORY / "crates" / crate / "api.txt"
        said = f" with {', '.join(features)}" if features else ""
        head = f"# What tidelog-{crate}{said} promises. Written by .ci/api.py --write; see docs/stability.md."
        now = "".join(f"{line}\n" for line in [head, *listing(crate, features)])
        before = path.read_text() if path.exists() else ""
        if options.write:
            path.write_text(now)
        elif now != before:
            differs = True
            sys.stdout.writelines(difflib.unified_diff(before.splitlines(True), now.splitlines(True), str(path.relative_to(REPOSITORY)), "now", n=0))
        print(f"{'ok  ' if options.write or now == before else 'DIFF'} tidelog-{crate}: {len(now.splitlines()) - 1} items")
    if differs:
        sys.exit("The public API has changed. If that is meant: python3 .ci/api.py --write, and a word in CHANGELOG.md.")


if __name__ == "__main__":
    main()
