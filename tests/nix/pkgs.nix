# Stand-ins for the packages that the module names: derivations that are never built, so nothing of Nixpkgs but `lib` is
# needed. Their store paths are made up and the same everywhere.
{ lib }:
let
  package =
    name: extra:
    {
      type = "derivation";
      inherit name;
      outPath = "/nix/store/00000000000000000000000000000000-${name}";
      outputName = "out";
      meta.mainProgram = name;
    }
    // extra;

  # The type of Nixpkgs' TOML format: what the format can say.
  value =
    with lib.types;
    oneOf [
      bool
      int
      float
      str
      path
      (attrsOf value)
      (listOf value)
    ]
    // {
      description = "TOML value";
    };
in
lib.genAttrs [ "catatonit" "crun" "nginx" "passt" "podman" "systemd" ] (name: package name { })
// {
  code-server-multi = package "code-server-multi" { meta.mainProgram = "csm"; };
  formats.toml = _: {
    type = value;
    generate = name: value: package name { inherit value; };
  };
  runCommand =
    name: _: command:
    package name { inherit command; };
  writeText = name: text: package name { inherit text; };
  buildEnv = { name, paths, ... }: package name { inherit paths; };
  callPackage =
    file: _:
    assert baseNameOf file == "image.nix";
    package "workspace.tar" {
      imageName = "localhost/code-server-multi/workspace";
      imageTag = "00000000000000000000000000000000";
    };
  stdenv.buildPlatform.canExecute = _: true;
  stdenv.hostPlatform = { };
}
