"""The workspace image from the inside: what is built into it, and what its recipe does with the vendors' extensions."""

import io
import tarfile

import pytest

from lab import env
from lab.vsix import stub

SHARED = True

RECIPE = env.CHECKOUT / "images" / "workspace"
COMPILED = "/usr/local/lib/compiled"


@pytest.fixture(scope="module")
def recipe(product):
    """What the image is made by, and the tests of its extension, below /tmp in dan's workspace."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for file in ("install-extensions", "editor-defaults.json", "extension"):
            tar.add(RECIPE / file, f"images/workspace/{file}")
        tar.add(env.CHECKOUT / "tests" / "extension", "tests/extension")
    product.inside("dan", "tar", "-C", "/tmp", "-x", input=packed.getvalue(), text=False)


def install(product, source, **options):
    """install-extensions, as the image's build runs it, with another place to put them."""
    script = "mkdir -p /tmp/target; bash /tmp/images/workspace/install-extensions \"$1\" /tmp/target"
    return product.inside("dan", "bash", "-euc", script, "lab", source, timeout=120, **options)


def test_the_extensions_own_tests_pass_with_the_images_node(product, recipe):
    print(product.inside_sh("dan", "node --test /tmp/tests/extension/*.test.js"))


def test_a_vendors_extension_comes_from_a_directory(product, recipe):
    product.put_inside("dan", "/tmp/vsix/a file.vsix", stub("sst-dev", "opencode"))
    product.put_inside("dan", "/tmp/vsix/another.vsix", stub("anthropic", "claude-code"))
    said = install(product, "/tmp/vsix").stdout
    assert "sst-dev.opencode 0.0.1" in said and "anthropic.claude-code 0.0.1" in said
    there = product.inside_sh("dan", "cd /tmp/target; ls").split()
    assert there == ["anthropic.claude-code-0.0.1", "code-server-multi", "sst-dev.opencode-0.0.1"]
    # Again, as when a build is repeated: the same.
    install(product, "/tmp/vsix")
    assert product.inside_sh("dan", "cd /tmp/target; ls").split() == there


def test_without_a_gallery_it_says_so_and_goes_on(product, recipe):
    product.inside_sh("dan", "rm -rf /tmp/target")
    said = install(product, "auto").stdout
    assert "no gallery answers at https://open-vsx.org/" in said
    assert "sst-dev.opencode anthropic.claude-code" in said and "--extensions DIRECTORY" in said
    assert product.inside_sh("dan", "ls /tmp/target") == "code-server-multi"


def test_a_directory_without_extensions_is_an_error(product, recipe):
    product.inside_sh("dan", "mkdir -p /tmp/empty; rm -rf /tmp/target")
    refused = install(product, "/tmp/empty", check=1)
    assert "no .vsix file in /tmp/empty" in refused.stderr
    product.put_inside("dan", "/tmp/broken/a.vsix", b"not a zip")
    refused = install(product, "/tmp/broken", check=1)
    assert "a.vsix" in refused.stderr


def test_the_editors_modules_come_compiled_and_terminals_know_nothing_of_it(product):
    environment = "tr '\\0' '\\n' </proc/$(pgrep -of code-server/out/node/entry)/environ"
    assert f"NODE_COMPILE_CACHE={COMPILED}" in product.inside_sh("dan", environment).split("\n")
    assert product.inside_sh("dan", 'echo "[${NODE_COMPILE_CACHE-}]"') == "[]"
    # Taken, not only there: with the same Node, paths, user and processor.
    said = product.inside("dan", "env", "NODE_DEBUG_NATIVE=COMPILE_CACHE", "code-server", "--version").stderr
    assert f"reading cache from {COMPILED}" in said and "success" in said
    assert product.inside("dan", "touch", f"{COMPILED}/x", check=False).returncode
    off = product.inside("dan", "env", "NODE_DISABLE_COMPILE_CACHE=1", "NODE_DEBUG_NATIVE=COMPILE_CACHE", "code-server", "--version")
    assert "reading cache" not in off.stderr
