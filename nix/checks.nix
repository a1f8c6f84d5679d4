# What `nix flake check` builds: the package with its tests, the documents, and every file of nix/tests as a virtual machine.
{ pkgs, self }:
let
  inherit (pkgs) lib;
  system = pkgs.stdenv.hostPlatform.system or pkgs.system;

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
in
lib.listToAttrs (map story tests)
// {
  package = self.packages.${system}.default;

  options = pkgs.runCommand "code-server-multi-options-are-fresh" { } ''
    ${lib.getExe' pkgs.diffutils "diff"} -u ${../docs/options.md} ${self.packages.${system}.options}
    touch $out
  '';
}
