{
  description = "Browser workspaces for people and their AI agents on one machine";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      each =
        outputs:
        lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: outputs nixpkgs.legacyPackages.${system});
    in
    {
      packages = each (pkgs: rec {
        default = code-server-multi;
        code-server-multi = pkgs.callPackage ./nix/package.nix { };
        image = pkgs.callPackage ./nix/image.nix { };
        options = pkgs.writeText "options.md" (import ./nix/options.nix { inherit lib pkgs; });
      });

      overlays.default = final: _: {
        code-server-multi = final.callPackage ./nix/package.nix { };
      };

      nixosModules = rec {
        default = code-server-multi;
        code-server-multi = ./nix/module.nix;
      };

      checks = each (pkgs: import ./nix/checks.nix { inherit pkgs self; });

      devShells = each (pkgs: {
        default = pkgs.callPackage ./nix/shell.nix { };
      });

      formatter = each (pkgs: pkgs.nixfmt-tree);
    };
}
