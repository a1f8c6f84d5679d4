# What working on the project takes. The lab builds its own Debian hosts, as root; see docs/contributing.md.
{
  cargo,
  cargo-nextest,
  clippy,
  deadnix,
  mkShell,
  nginx,
  nixfmt,
  rust-analyzer,
  rustc,
  rustfmt,
}:
mkShell {
  packages = [
    cargo
    cargo-nextest
    clippy
    deadnix
    nginx
    nixfmt
    rust-analyzer
    rustc
    rustfmt
  ];
}
