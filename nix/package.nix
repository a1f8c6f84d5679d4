# The program `csm`.
{
  installShellFiles,
  lib,
  rustPlatform,
  stdenv,
}:
let
  manifest = (lib.importTOML ../Cargo.toml).package;
  root = ../.;
in
rustPlatform.buildRustPackage {
  pname = manifest.name;
  inherit (manifest) version;

  # Only what the program and the tests beside its code are made of: a change of a document builds nothing anew.
  src = lib.fileset.toSource {
    inherit root;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../src
      ../tests/data
    ];
  };
  cargoLock.lockFile = ../Cargo.lock;

  # The tests beside the code. The others ask a real nginx, or read documents that aren't in `src`.
  cargoTestFlags = [ "--lib" ];

  nativeBuildInputs = [ installShellFiles ];
  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    installShellCompletion --cmd csm \
      --bash <($out/bin/csm completions bash) \
      --fish <($out/bin/csm completions fish) \
      --zsh <($out/bin/csm completions zsh)
    $out/bin/csm man man
    installManPage man/*
  '';

  meta = {
    inherit (manifest) description;
    license = lib.licenses.mit;
    mainProgram = "csm";
    platforms = lib.platforms.linux;
  };
}
