"""What cuts.py takes for marked, and what it makes of it; and that every guard of the table can be taken out of the sources."""

import tempfile
import textwrap
import unittest
from pathlib import Path

import cuts

CHECKOUT = Path(__file__).resolve().parent.parent.parent

# A source with the marker left out, an operation, and what the source is then, with line breaks as spaces.
RUST = [
    # How far it reaches.
    ("a(); b(); c();", "remove", None, "b(); c();"),
    ("a(b, c; d).e(|x| { x; })?; f();", "remove", None, "f();"),
    ('let a = f("; )", \';\', r#"}"; "#); b();', "remove", None, "b();"),
    ("let map: Map<A, B> = new(); b();", "remove", None, "b();"),
    ("if a { b; } else if c { d; } else { e; } f();", "remove", None, "f();"),
    ("if a { b; } if c { d; }", "remove", None, "if c { d; }"),
    ("match a { B { c } => d, _ => { e } } f();", "remove", None, "f();"),
    ("select! { a = b() => c, } d();", "remove", None, "d();"),
    ("let a = match b { c => d }; e();", "remove", None, "e();"),
    ("pub(super) const fn a<'x>(b: C<'x, D>) -> E<F, G> { h } fn i() {}", "remove", None, "fn i() {}"),
    ("A { b } => c(d, e), _ => f", "remove", None, "_ => f"),
    ("a => { b, c } d => e", "remove", None, "d => e"),
    ("a => b }", "remove", None, "}"),
    ("a + b, c)", "remove", None, "c)"),
    ("a])", "remove", None, "])"),
    ("A { b: c }, d", "remove", None, "d"),
    ("&& a(b && c) && d", "remove", None, "&& d"),
    ("&& a || b, c", "remove", None, ", c"),
    ("+ a(b) )", "remove", None, ")"),
    ("#[test] fn a() {}", "remove", None, "fn a() {}"),
    ("// why: a;\n/* b; */ c; d;", "remove", None, "// why: a; /* b; */ d;"),
    # What is done to it.
    ("a(b?)?.c()?; d()?;", "error", None, "let _ = a(b?)?.c(); d()?;"),
    ("if a && b.is_some_and(|b| { b }) { c }", "condition", "false", "if false { c }"),
    ("while let Some(a) = b() { c }", "condition", "<it> && false", "while let Some(a) = b() && false { c }"),
    ("match a(b) { c => if d { e } }", "condition", "None", "match None { c => if d { e } }"),
    ("A(b) if c == d => if e { f }, g", "condition", "true", "A(b) if true => if e { f }, g"),
    ("Ok(if a { b } else { c })", "condition", "true", "Ok(if true { b } else { c })"),
    ("let a: B = c == d; e", "value", "f", "let a: B = f; e"),
    ("self.a = if b { c } else { d }; e", "value", "1", "self.a = 1; e"),
    ("const A: &[B] = &[c, d]; e", "value", "&[]", "const A: &[B] = &[]; e"),
    ("a: b::c(d) + e, f: g", "value", "<it> * 2", "a: b::c(d) + e * 2, f: g"),
    ("() = a(b) => c = d, e", "value", "f", "() = f => c = d, e"),
    ('("A", B::c(d, e)), f', "value", "g", '("A", g), f'),
    ("a.len() <= B, c", "value", "true", "true, c"),
    ("a(b) && c)", "value", "true", "true)"),
    ("A => b(c, d), e", "body", "f", "A => f, e"),
    ("A => { b } e", "body", "{}", "A => {} e"),
    ("fn a(b: C) -> D { e { f } } g", "body", " h ", "fn a(b: C) -> D { h } g"),
    ("if a { } else { b }", "body", "c", "if a {c} else { b }"),
    ('a("b", 0o660, c)?; d("e")', "literal", "1", 'a("b", 1, c)?; d("e")'),
    ("a(\"b\".c('d'))", "literal", '"e"', 'a("b".c("e"))'),
    ('const A: &str = r#"b "c" d"#; e', "replace", {'"c"': "f"}, 'const A: &str = r#"b f d"#; e'),
    ("A => b, c", "insert", "D => e,", "D => e, A => b, c"),
    # What is not there.
    ("a(); b()?;", "error", None, cuts.Wrong),
    ("a(b); if c {}", "condition", "false", cuts.Wrong),
    ("a(b); c = 1;", "literal", "2", cuts.Wrong),
    ("a(b); c {}", "body", "", cuts.Wrong),
    ("a(b); c", "replace", {"c": "d"}, cuts.Wrong),
    ("a(b, b); c", "replace", {"b": "d"}, cuts.Wrong),
    ("a(b); c", "paint", "red", cuts.Wrong),
    (") a", "remove", None, cuts.Wrong),
]
OTHER = [
    ("A=yes\nB=no\n", "remove", None, "\nB=no\n"),
    ("A=b=c\n", "value", "no", "A=no\n"),
    ("# why\n\n  a $b $c;\n", "value", "d", "# why\n\n  a $b d;\n"),
    ("a b;\n", "replace", {"b": "c"}, "a c;\n"),
    ("A=yes\n", "body", "", cuts.Wrong),
]


class Cuts(unittest.TestCase):
    def test_what_is_marked_and_what_is_made_of_it(self):
        for rust, cases in ((True, RUST), (False, OTHER)):
            for source, operation, argument, wanted in cases:
                with self.subTest(source, operation=operation):
                    if wanted is cuts.Wrong:
                        self.assertRaises(cuts.Wrong, cuts.change, source, 0, rust, operation, argument)
                        continue
                    start, end, new = cuts.change(source, 0, rust, operation, argument)
                    made = source[:start] + new + source[end:]
                    self.assertEqual(" ".join(made.split()) if rust else made, wanted)

    def test_markers_are_found_and_their_guards_taken_out(self):
        with tempfile.TemporaryDirectory() as place:
            tree = Path(place)
            (tree / "nix").mkdir()
            (tree / "src/model").mkdir(parents=True)
            unit, source = tree / "nix/a.service", tree / "src/model/a.rs"
            unit.write_text("# guard: F1-a\nA=b\n")
            source.write_text("fn a() {\n    // guard: F1-b A2-c\n    // why\n    b();\n    // guard: A2-d\n    c = 1;\n}\n")
            table = cuts.table(
                textwrap.dedent("""
                    [[guard]]
                    id = "A2-c"
                    guard = "it is so"
                    also = [{ id = "A2-d", take_out = { value = "2" } }]
                    stories = []
                """)
            )
            self.assertEqual(table[0].row, "A2")
            found = cuts.changes(table[0], tree, cuts.markers(tree))
            cuts.apply(found)
            self.assertEqual(
                source.read_text(), "fn a() {\n    // guard: F1-b A2-c\n    // why\n    \n    // guard: A2-d\n    c = 2;\n}\n"
            )
            self.assertEqual(unit.read_text(), "# guard: F1-a\nA=b\n")
            unit.write_text("# guard: A2-d\nA=b\n")
            self.assertRaises(cuts.Wrong, cuts.markers, tree)
            unit.write_text("")
            source.write_text("// guard: A2-c\na();\n")
            self.assertRaises(cuts.Wrong, cuts.changes, table[0], tree, cuts.markers(tree))

    def test_a_table_with_a_word_that_means_nothing_is_refused(self):
        for entry in (
            'id = "F1-a"\nguard = "b"',
            'id = "F1-a"\nguard = "b"\nstories = []\ntakeout = "error"',
            'id = "F1-a"\nguard = "b"\nstories = []\nalso = [{ id = "F1-c", row = "F1" }]',
            'id = "F1-a"\nguard = "b"\nstories = []\ntake_out = { value = "1", body = "2" }',
        ):
            self.assertRaises(cuts.Wrong, cuts.table, f"[[guard]]\n{entry}\n")

    def test_changes_that_meet(self):
        one = cuts.Change(Path("a"), 2, 5, "")
        for other, meets in ((("a", 5, 7), True), (("a", 0, 2), True), (("a", 3, 3), True), (("a", 6, 7), False), (("b", 2, 5), False)):
            self.assertEqual(one.meets(cuts.Change(Path(other[0]), *other[1:], "")), meets, other)

    def test_every_guard_can_be_taken_out(self):
        marked = cuts.markers(CHECKOUT)
        guards = cuts.table((CHECKOUT / "tests/guards/guards.toml").read_text())
        self.assertGreater(len(guards), 100)
        for guard in guards:
            with self.subTest(guard.id):
                for one in cuts.changes(guard, CHECKOUT, marked):
                    self.assertNotEqual(one.file.read_text()[one.start : one.end], one.new)


if __name__ == "__main__":
    unittest.main()
