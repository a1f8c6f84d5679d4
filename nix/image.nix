# The workspace image from Nixpkgs: what images/workspace/Containerfile puts together on Debian, as far as Nixpkgs has it.
# Versions are those of Nixpkgs. `imageTag` is made from the contents, so another build is another image.
{
  bash-completion,
  bashInteractive,
  buildEnv,
  bzip2,
  cacert,
  claude-code,
  code-server,
  coreutils,
  curl,
  diffutils,
  dockerTools,
  fakeNss,
  findutils,
  fzf,
  gawk,
  gcc,
  gh,
  git,
  glibcLocalesUtf8,
  gnugrep,
  gnumake,
  gnupatch,
  gnused,
  gnutar,
  gzip,
  jq,
  less,
  lib,
  nano,
  nix-ld,
  nodejs_24,
  opencode,
  openssh,
  pkg-config,
  procps,
  python3,
  ripgrep,
  runCommand,
  stdenv,
  tmux,
  tzdata,
  unzip,
  vim,
  which,
  writeTextDir,
  xz,
  yarn,
  # More for everybody's PATH.
  extraPackages ? [ ],
  # The first screen without advertisements and questions. A code-server whose page isn't known stops the build; with false
  # here it goes on, and the editor shows what its vendor shows. The module's `image.extraArguments` sets these three.
  withEditorDefaults ? true,
  # Its licence is not free, so Nixpkgs builds it only where that is allowed: by allowUnfree or a predicate.
  withClaudeCode ? claude-code.meta.available or false,
}:
let
  defaults = ../images/workspace;

  # code-server with this project's extension built in, and its first screen. The name keeps the length of the path, so that
  # whatever names the package's own place can name the new one instead.
  editor = runCommand code-server.name { nativeBuildInputs = [ nodejs_24 ]; } (
    ''
      cp -r ${code-server} $out
      chmod -R u+w $out
      grep -rlF ${code-server} $out | while read -r file; do
        sed -i "s|${code-server}|$out|g" "$file"
      done
      find $out -lname '${code-server}/*' | while read -r link; do
        ln -sfn "$(readlink "$link" | sed "s|^${code-server}|$out|")" "$link"
      done
      cp -r ${defaults}/extension $out/libexec/code-server/lib/vscode/extensions/code-server-multi
    ''
    + lib.optionalString withEditorDefaults ''
      node ${defaults}/install-defaults \
        $out/libexec/code-server/lib/vscode/out/vs/code/browser/workbench/workbench.html || {
        echo 'the first screen of ${code-server.name} is not known: set services.code-server-multi.image.extraArguments.withEditorDefaults = false' >&2
        exit 1
      }
    ''
  );

  programs = buildEnv {
    name = "code-server-multi-workspace";
    paths = [
      bash-completion
      bashInteractive
      bzip2
      editor
      coreutils
      curl
      diffutils
      findutils
      fzf
      gawk
      gcc
      gh
      git
      gnugrep
      gnumake
      gnupatch
      gnused
      gnutar
      gzip
      jq
      less
      nano
      nodejs_24
      opencode
      openssh
      pkg-config
      procps
      (python3.withPackages (python: [ python.pip ]))
      ripgrep
      tmux
      unzip
      vim
      which
      xz
      yarn
      (writeTextDir "etc/opencode/opencode.json" (
        builtins.readFile (defaults + "/rootfs/etc/opencode/opencode.json")
      ))
    ]
    ++ lib.optionals withClaudeCode [
      claude-code
      (writeTextDir "etc/claude-code/managed-settings.json" (
        builtins.readFile (defaults + "/rootfs/etc/claude-code/managed-settings.json")
      ))
    ]
    ++ extraPackages;
    pathsToLink = [
      "/bin"
      "/share"
      "/etc/claude-code"
      "/etc/opencode"
    ];
    # coreutils and procps both have kill and uptime; whichever comes first will do.
    ignoreCollisions = true;
  };

  # Podman looks the container's user up there.
  users = fakeNss.override {
    extraPasswdLines = [ "coder:x:1000:1000::/home/coder:/bin/bash" ];
    extraGroupLines = [ "coder:x:1000:" ];
  };
in
dockerTools.buildLayeredImage {
  name = "localhost/code-server-multi/workspace";
  # It is read once, from the store; compressing it would only cost time.
  compressor = "none";
  contents = [
    programs
    users
    dockerTools.usrBinEnv
    dockerTools.caCertificates
  ];
  fakeRootCommands = ''
    install -d -m 1777 tmp var/tmp
    install -d -o 1000 -g 1000 home home/coder home/coder/project home/coder/.local home/coder/.local/share \
      home/coder/.local/share/code-server
    # Programs that an extension brings along look for a loader where other systems have it.
    install -d ${stdenv.hostPlatform.libDir}
    ln -s ${nix-ld}/libexec/nix-ld ${stdenv.hostPlatform.libDir}/${baseNameOf stdenv.cc.bintools.dynamicLinker}
  '';
  config = {
    User = "1000:1000";
    WorkingDir = "/home/coder/project";
    Cmd = [ "code-server" ];
    Env = [
      "PATH=/home/coder/.local/bin:/bin"
      "LANG=C.UTF-8"
      "LOCALE_ARCHIVE=${glibcLocalesUtf8}/lib/locale/locale-archive"
      "TZDIR=${tzdata}/share/zoneinfo"
      "SHELL=/bin/bash"
      "EDITOR=nano"
      "NPM_CONFIG_PREFIX=/home/coder/.local"
      "SSL_CERT_FILE=${cacert}/etc/ssl/certs/ca-bundle.crt"
      "NIX_LD=${stdenv.cc.bintools.dynamicLinker}"
      "NIX_LD_LIBRARY_PATH=${lib.makeLibraryPath [ stdenv.cc.cc.lib ]}"
      "DISABLE_AUTOUPDATER=1"
      "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1"
      "OPENCODE_DISABLE_AUTOUPDATE=1"
      "OPENCODE_DISABLE_MODELS_FETCH=1"
      "OPENCODE_DISABLE_LSP_DOWNLOAD=1"
      "OPENCODE_DISABLE_SHARE=1"
    ];
  };
}
