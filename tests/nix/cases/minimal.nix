# The least that works: a certificate of one's own, one person, a password by `csm password`.
{
  services.code-server-multi = {
    enable = true;
    domain = "code.example.org";
    tls.certificate = "/etc/ssl/code/fullchain.pem";
    tls.certificateKey = "/etc/ssl/code/privkey.pem";
    users.dan = { };
  };
}
