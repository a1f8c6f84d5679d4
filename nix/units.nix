# Reads systemd's own files, so that nix/units stays the one source of units for the lab, for Debian and for this module.
# What is read becomes options of the module system, so that each directive can be seen and overridden like any other.
{ lib }:
let
  inherit (lib)
    concatMap
    foldl'
    hasPrefix
    head
    last
    length
    listToAttrs
    mapAttrs
    mkDefault
    nameValuePair
    removeAttrs
    splitString
    ;

  lines =
    text:
    builtins.filter (line: line != "" && !hasPrefix "#" line) (map lib.trim (splitString "\n" text));

  # { Service.ExecStart = [ "..." ]; }: each directive with its values in order (systemd.syntax(7)).
  parse =
    text:
    (foldl'
      (
        state: line:
        let
          section = builtins.match "\\[([A-Za-z]+)]" line;
          directive = builtins.match "([A-Za-z0-9]+)=(.*)" line;
          key = head directive;
          own = state.sections.${state.section} or { };
        in
        if section != null then
          state // { section = head section; }
        else if directive == null || lib.hasSuffix "\\" line then
          throw "nix/units.nix: can't read the line ${line}"
        else
          state
          // {
            sections = state.sections // {
              ${state.section} = own // {
                ${key} = (own.${key} or [ ]) ++ [ (last directive) ];
              };
            };
          }
      )
      {
        section = "";
        sections = { };
      }
      (lines text)
    ).sections;

  one = values: if length values == 1 then head values else values;
  words = values: builtins.filter (word: word != "") (concatMap (splitString " ") values);

  # Directives as values that any plain definition of the admin's replaces.
  directives = mapAttrs (_: values: mkDefault (one values));

  # What the module system has options of its own for.
  ordering = {
    after = "After";
    before = "Before";
    documentation = "Documentation";
    requires = "Requires";
    wants = "Wants";
  };

  common =
    sections:
    let
      unit = sections.Unit or { };
    in
    mapAttrs (_: key: words (unit.${key} or [ ])) ordering
    // {
      description = one unit.Description;
      unitConfig = directives (removeAttrs unit ([ "Description" ] ++ lib.attrValues ordering));
      wantedBy = words (sections.Install.WantedBy or [ ]);
    };
in
{
  # `csm` takes the place of the program that the file names.
  service =
    csm: file:
    let
      sections = parse (
        builtins.replaceStrings [ "/usr/local/bin/csm" ] [ csm ] (builtins.readFile file)
      );
      variable =
        word:
        let
          parts = builtins.match "([^=]+)=(.*)" word;
        in
        nameValuePair (head parts) (last parts);
    in
    common sections
    // {
      environment = listToAttrs (map variable (words (sections.Service.Environment or [ ])));
      serviceConfig = directives (removeAttrs sections.Service [ "Environment" ]);
    };

  socket =
    file:
    let
      sections = parse (builtins.readFile file);
    in
    common sections // { socketConfig = directives sections.Socket; };

  # A drop-in for somebody else's service. Lists join what is there; the rest only fills gaps.
  dropIn =
    file: lists:
    mapAttrs (
      key: values: if builtins.elem key lists then words values else mkDefault (one values)
    ) (parse (builtins.readFile file)).Service;

  # Lines of tmpfiles.d(5) as systemd.tmpfiles.settings has them: PATH.TYPE = { mode, user, group, age }.
  tmpfiles =
    file:
    listToAttrs (
      map (
        line:
        let
          field = builtins.elemAt (words [ line ]);
        in
        nameValuePair (field 1) {
          ${field 0} = {
            mode = field 2;
            user = field 3;
            group = field 4;
            age = field 5;
          };
        }
      ) (lines (builtins.readFile file))
    );
}
