# What `nix flake check` builds: the package with its tests, the module as tests/nix evaluates it, the sources' form, and every
# file of nix/tests as a virtual machine.
{ pkgs, self }:
let
  inherit (pkgs) lib;
  system = pkgs.stdenv.hostPlatform.system;

  tests = lib.filter (name: name != "common") (
    map (lib.removeSuffix ".nix") (
      lib.filter (lib.hasSuffix ".nix") (lib.attrNames (builtins.readDir ./tests))
    )
  );

  # One story a file: NAME.nix says what the machine is, NAME.py what happens on it.
  story =
    name:
    lib.nameValuePair "vm-${name}" (
      pkgs.testers.runNixOSTest (
        import (./tests + "/${name}.nix") (
          { inherit pkgs; } // import ./tests/common.nix { inherit pkgs self; }
        )
        // {
          name = "code-server-multi-${name}";
          testScript = builtins.readFile ./tests/common.py + builtins.readFile (./tests + "/${name}.py");
        }
      )
    );

  # With the `lib` of the Nixpkgs at hand, which may say a type's name otherwise than the one that the texts were made with.
  evaluated = import ../tests/nix { inherit lib; };
  rendered = pkgs.linkFarm "code-server-multi-rendered" (
    lib.concatLists (
      lib.mapAttrsToList (
        case:
        lib.mapAttrsToList (
          name: text: {
            name = "${case}/${name}";
            path = pkgs.writeText name text;
          }
        )
      ) evaluated.cases
    )
  );
  nothing =
    name: tools: script:
    pkgs.runCommand "code-server-multi-${name}" { nativeBuildInputs = tools; } ''
      ${script}
      touch $out
    '';
  sources = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.fileFilter (file: file.hasExt "nix") ../.;
  };
in
lib.listToAttrs (map story tests)
// {
  package = self.packages.${system}.default;

  module = nothing "module" [ pkgs.diffutils ] ''
    diff --recursive --unified --exclude inputs.sha256 --exclude refusals ${../tests/nix/golden} ${rendered}
    diff --unified ${../docs/options.md} ${self.packages.${system}.options}
  '';

  sources = nothing "sources" [ pkgs.nixfmt pkgs.deadnix ] ''
    find ${sources} -name '*.nix' -exec nixfmt --check {} +
    deadnix --fail ${sources}
  '';
}
