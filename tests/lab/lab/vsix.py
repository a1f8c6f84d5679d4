"""Packed editor extensions that stand in for a vendor's: its id, and a command on one of our keys."""

import io
import json
import zipfile

# Appends to /tmp/stub whenever it is called.
STUB = """
const vscode = require("vscode");
const fs = require("node:fs");
exports.activate = context => {
  const run = () => fs.appendFileSync("/tmp/stub", "x");
  context.subscriptions.push(vscode.commands.registerCommand("stub.run", run));
};
"""


def stub(publisher, name):
    """A .vsix file."""
    manifest = {
        "name": name,
        "publisher": publisher,
        "version": "0.0.1",
        "engines": {"vscode": "^1.90.0"},
        "main": "./extension.js",
        "activationEvents": ["onStartupFinished"],
        "contributes": {
            "commands": [{"command": "stub.run", "title": "Stub"}],
            "keybindings": [{"command": "stub.run", "key": "ctrl+escape"}],
        },
    }
    about = f"""<?xml version="1.0" encoding="utf-8"?>
<PackageManifest Version="2.0.0" xmlns="http://schemas.microsoft.com/developer/vsx-schema/2011">
<Metadata><Identity Language="en-US" Id="{name}" Version="0.0.1" Publisher="{publisher}"/></Metadata>
<Installation><InstallationTarget Id="Microsoft.VisualStudio.Code"/></Installation>
<Assets><Asset Type="Microsoft.VisualStudio.Code.Manifest" Path="extension/package.json"/></Assets>
</PackageManifest>"""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("extension.vsixmanifest", about)
        archive.writestr("extension/package.json", json.dumps(manifest))
        archive.writestr("extension/extension.js", STUB)
    return packed.getvalue()
