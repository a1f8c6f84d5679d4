# Nixpkgs for `nix flake check --no-build`: `lib` is real, packages are derivations that are never built. Whoever is called
# with arguments forces them, so a wrong path or a misspelt argument shows.
{ lib }:
let
  package =
    system: name:
    derivation {
      inherit name system;
      builder = "/never/built";
    };

  pkgsFor =
    system:
    let
      made = name: arguments: builtins.deepSeq arguments (package system name);
      pkgs = {
        inherit lib system;
        config = { };
        rustPlatform.buildRustPackage =
          arguments: made arguments.pname (removeAttrs arguments [ "meta" ] // { src = "${arguments.src}"; });
        stdenv = {
          buildPlatform.canExecute = _: true;
          hostPlatform = {
            inherit system;
            libDir = if system == "aarch64-linux" then "lib" else "lib64";
          };
          cc = {
            cc = package system "gcc" // {
              lib = package system "gcc-lib";
            };
            bintools.dynamicLinker = "/lib/ld-linux.so.2";
          };
        };
        buildEnv = arguments: made arguments.name arguments;
        writeTextDir = path: text: made (baseNameOf path) text;
        writeText = name: text: made name text;
        linkFarm = name: links: made name links;
        runCommand =
          name: arguments: script:
          made name [
            arguments
            script
          ];
        python3 = package system "python3" // {
          withPackages =
            choose:
            made "python3" (choose {
              pip = package system "pip";
            });
        };
        fakeNss.override = made "nss";
        dockerTools = {
          usrBinEnv = package system "env";
          caCertificates = package system "certificates";
          buildLayeredImage = arguments: made "image.tar" arguments;
        };
        mkShell = made "shell";
        formats.toml = _: { type = lib.types.attrsOf lib.types.anything; };
        # A VM test is only looked at as far as its own text goes.
        testers.runNixOSTest = test: made test.name test.testScript;
        callPackage =
          file: arguments:
          let
            function = import file;
            own = lib.mapAttrs (name: _: pkgs.${name} or (package system name)) (
              lib.filterAttrs (name: optional: !optional || pkgs ? ${name}) (lib.functionArgs function)
            );
          in
          function (own // arguments);
      }
      // lib.genAttrs [ "deadnix" "diffutils" "jq" "nixfmt" "nixfmt-tree" "openssl" ] (package system);
    in
    pkgs;
in
{
  inherit lib;
  legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] pkgsFor;
}
