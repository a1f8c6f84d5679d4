"""The lab's certificate authority. Its key exists only in the memory of one run."""

import ssl
import subprocess

import trustme

from . import env


class Pki:
    def __init__(self, directory, *domains):
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._authority = trustme.CA(organization_name="code-server-multi lab")
        self.authority = directory / "ca.pem"
        self._authority.cert_pem.write_to_path(self.authority)
        names = [name for domain in domains or (env.DOMAIN,) for name in (f"*.{domain}", domain)]
        issued = self._authority.issue_cert(*names)
        self.certificate = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        self.key = issued.private_key_pem.bytes()

    def context(self):
        """For clients in Python: trusts this authority and nothing else."""
        return ssl.create_default_context(cafile=str(self.authority))

    def trust_in(self, home):
        """Makes a Chromium whose HOME this is trust the authority."""
        place = home / ".pki" / "nssdb"
        place.mkdir(parents=True, exist_ok=True)
        database = f"sql:{place}"
        _certutil("-N", "-d", database, "--empty-password")
        _certutil("-A", "-d", database, "-n", "lab", "-t", "C,,", "-i", str(self.authority))


def _certutil(*argv):
    subprocess.run(["certutil", *argv], check=True, capture_output=True)
