# What nginx and the certificate need, as assertions.
{
  cfg,
  config,
  lib,
  own,
  refuse,
}:
let
  inherit (lib) concatMapStringsSep elem optional;
  nginx = config.services.nginx;
  certificates = config.security.acme.certs;
  host = cfg.acmeHost;
  certificate = certificates.${host};
  path = "${own}.acmeHost";
  others = lib.remove host (lib.attrNames certificates);

  # This module itself mentions the certificate, so that it is there proves nothing.
  isOrdered =
    certificate.dnsProvider != null
    || certificate.webroot != null
    || certificate.listenHTTP != null
    || certificate.s3Bucket != null;
  covered = [ certificate.domain ] ++ certificate.extraDomainNames;
  missing = lib.filter (name: !elem name covered) [
    "*.${cfg.domain}"
    cfg.domain
  ];
  isReadable =
    certificate.group == nginx.group
    || elem nginx.user (config.users.groups.${certificate.group} or { members = [ ]; }).members
    || elem certificate.group (
      lib.toList (config.systemd.services.nginx.serviceConfig.SupplementaryGroups or [ ])
    );

  acme =
    if !isOrdered then
      [
        (refuse ''
          ${path}: there is no certificate "${host}" that anybody orders${
            lib.optionalString (others != [ ]) " (there is: ${lib.concatStringsSep ", " others})"
          }. Write:
            security.acme.certs."${host}" = {
              domain = "${cfg.domain}";
              extraDomainNames = [ "*.${cfg.domain}" ];
              dnsProvider = "...";
              credentialFiles."..._FILE" = "/run/secrets/...";
            };'')
      ]
    else
      optional (certificate.dnsProvider == null) (
        refuse "${path}: a wildcard certificate is only given out by DNS-01; set security.acme.certs.\"${host}\".dnsProvider in place of webroot, listenHTTP or s3Bucket"
      )
      ++ optional (missing != [ ]) (
        refuse "${path}: the certificate \"${host}\" is not for ${
          concatMapStringsSep " and " (name: "\"${name}\"") missing
        }; add that to security.acme.certs.\"${host}\".extraDomainNames"
      )
      ++ optional (!isReadable) (
        refuse "${path}: nginx can't read the certificate \"${host}\", which belongs to the group ${certificate.group}; leave security.acme.certs.\"${host}\".group out, or write \"${nginx.group}\""
      );

  files = lib.filter (file: file != null) [
    cfg.tls.certificate
    cfg.tls.certificateKey
  ];
in
optional (!nginx.enable) (
  refuse "services.nginx.enable: workspaces are served by nginx; remove services.nginx.enable = false"
)
++
  lib.concatMap
    (
      option:
      optional (nginx.${option} != "") (
        refuse "services.nginx.${option}: replaces what this module adds to nginx's configuration, so no workspace would be served; write services.nginx.virtualHosts or appendHttpConfig instead"
      )
    )
    [
      "config"
      "httpConfig"
    ]
++ (
  if host != null && files != [ ] then
    [
      (refuse "${path}: is set together with tls.certificate or tls.certificateKey; write one or the other: acmeHost for a certificate of security.acme, tls.* for files of your own")
    ]
  else if host != null then
    acme
  else if lib.length files == 2 then
    [ ]
  else
    [
      (refuse "${path}: workspaces need a certificate for *.${cfg.domain}; write acmeHost = \"NAME\" of a certificate in security.acme.certs, or both tls.certificate and tls.certificateKey")
    ]
)
