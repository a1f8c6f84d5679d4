"""The lab: real Debian 13 hosts, a certificate authority, a browser. Stories in ../stories use it."""
