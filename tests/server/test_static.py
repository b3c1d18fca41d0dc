"""Static files: what is served, and that nothing outside the directory ever is."""

import errno
import os
from urllib.parse import quote, urljoin

import pytest

from scriptling_ws._handshakes.head import Refused, Request
from scriptling_ws._server import static as _static
from scriptling_ws._server.static import StaticFiles

pytestmark = pytest.mark.once


@pytest.fixture
def tree(tmp_path):
    """A directory to serve, and secrets around it."""
    root = tmp_path / "root"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / ".well-known").mkdir()
    (root / "index.html").write_text("<p>home")
    (root / "sub" / "index.html").write_text("<p>sub")
    (root / "a b.txt").write_text("blank")
    (root / "app.js").write_text("1")
    (root / "data.bin").write_bytes(b"\x00\x01")
    (root / ".env").write_text("secret")
    (root / ".git" / "config").write_text("secret")
    (root / ".well-known" / "x.txt").write_text("public")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "root-sibling").mkdir()
    (tmp_path / "root-sibling" / "secret.txt").write_text("secret")
    return root


def fetch(files, path, query=""):
    response = files(Request("GET", path, target=path + query))
    if response.file is None:
        return response, response.body
    with response.file as file:
        return response, file.read()


def status(files, path):
    with pytest.raises(Refused) as refused:
        fetch(files, path)
    return refused.value.status


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/", "text/html; charset=utf-8", b"<p>home"),
        ("/index.html", "text/html; charset=utf-8", b"<p>home"),
        ("/sub/", "text/html; charset=utf-8", b"<p>sub"),
        ("/a b.txt", "text/plain; charset=utf-8", b"blank"),
        ("/app.js", "text/javascript; charset=utf-8", b"1"),
        ("/data.bin", "application/octet-stream", b"\x00\x01"),
        ("/.well-known/x.txt", "text/plain; charset=utf-8", b"public"),
    ],
)
def test_files(tree, path, kind, body):
    response, content = fetch(StaticFiles("/", tree), path)
    assert (response.status, response.content_type, content) == (200, kind, body)
    assert response.length == len(body)


def test_a_prefix_is_taken_off(tree):
    files = StaticFiles("/assets", tree)
    assert fetch(files, "/assets/app.js")[1] == b"1"
    assert fetch(files, "/assets/")[1] == b"<p>home"
    for path in ("/assets//", "/assets///", "/assets/sub//"):
        assert status(files, path) == 404


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/sub/../../secret.txt",
        "/sub/../app.js",
        "/..",
        "/./app.js",
        "//app.js",
        "//etc/passwd",
        "/sub//index.html",
        "//",
        "/sub//",
        "/sub///",
        "/..\\secret.txt",
        "/sub\\index.html",
        "/app.js\0",
        "/app.js\0.txt",
        "/app.js\n",
        "/app.js/",
        "/../root-sibling/secret.txt",
        "/.env",
        "/.git/config",
        "/...",
        "/missing",
        "/missing/",
        "/sub/deep/",
        "/app.js/x",
        "/" + "a" * 5000,
        "/" + "a/" * 5000,
    ],
)
def test_not_served(tree, path):
    assert status(StaticFiles("/", tree), path) == 404


def test_an_absolute_path_stays_inside(tree):
    assert status(StaticFiles("/", tree), f"/{tree.parent}/secret.txt") == 404
    assert status(StaticFiles("/", tree), f"/{tree}/app.js") == 404


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="needs symlinks")
def test_links_may_lead_inside_but_not_out(tree):
    (tree / "inside").symlink_to(tree / "app.js")
    (tree / "relative").symlink_to("sub/index.html")
    (tree / "out").symlink_to(tree.parent / "secret.txt")
    (tree / "up").symlink_to("..")
    (tree / "sibling").symlink_to(tree.parent / "root-sibling")
    (tree / "loop").symlink_to("loop")
    (tree / "sub" / "deep" / "index.html").symlink_to(tree.parent / "secret.txt")
    files = StaticFiles("/", tree)
    assert fetch(files, "/inside")[1] == b"1"
    assert fetch(files, "/relative")[1] == b"<p>sub"
    for path in ("/out", "/up/secret.txt", "/sibling/secret.txt", "/up/", "/loop", "/sub/deep/"):
        assert status(files, path) == 404


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="needs symlinks")
def test_the_directory_itself_may_be_a_link(tree):
    link = tree.parent / "link"
    link.symlink_to(tree)
    assert fetch(StaticFiles("/", link), "/app.js")[1] == b"1"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_only_regular_files(tree):
    os.mkfifo(tree / "pipe")
    assert status(StaticFiles("/", tree), "/pipe") == 404


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("make", [os.mkdir, getattr(os, "mkfifo", None)])
def test_a_file_that_is_another_thing_as_it_is_opened(tree, monkeypatch, make):
    """Nor is a pipe waited for: nobody may ever write into it."""
    opened, closed = [], []
    files, real_open, real_close = StaticFiles("/", tree), os.open, os.close

    def exchange(path, flags):
        os.unlink(path)
        make(path)
        opened.append(real_open(path, flags))
        return opened[-1]

    def close(descriptor):
        closed.append(descriptor)
        real_close(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(_static.os, "open", exchange)
        patch.setattr(_static.os, "close", close)
        assert status(files, "/app.js") == 404
    assert len(opened) == 1
    assert opened[0] in closed


@pytest.mark.parametrize(
    ("prefix", "path", "query", "location"),
    [
        ("/", "/sub", "", "./sub/"),
        ("/", "/sub/deep", "", "./deep/"),
        ("/", "/sub", "?a=1&b=%20", "./sub/?a=1&b=%20"),
        ("/a b", "/a b", "", "./a%20b/"),
        ("/x/assets", "/x/assets", "", "./assets/"),
        ("/x/assets", "/x/assets/sub", "", "./sub/"),
    ],
)
def test_a_directory_without_its_slash_is_redirected(tree, prefix, path, query, location):
    response, _ = fetch(StaticFiles(prefix, tree), path, query)
    assert response.status == 307
    assert dict(response.headers)["Location"] == location
    # A client behind a proxy that has taken a prefix off comes to the right place as well.
    for base in ("http://own", "http://proxy/some/prefix"):
        there = urljoin(base + quote(path), location.partition("?")[0])
        assert there == f"{base}{quote(path)}/"


@pytest.mark.skipif(os.name == "nt", reason="no such name on Windows")
def test_a_redirect_is_no_url_of_its_own(tree):
    (tree / "http:").mkdir()
    response, _ = fetch(StaticFiles("/", tree), "/http:")
    assert dict(response.headers)["Location"] == "./http:/"


def test_a_redirect_never_leaves_the_server(tree):
    # "//host/" as a Location would be another server's address.
    (tree / "evil.example").mkdir()
    with pytest.raises(Refused):
        fetch(StaticFiles("/", tree), "//evil.example")
    redirect = _static._redirect(Request("GET", "//evil.example", target="//evil.example"))
    assert dict(redirect.headers)["Location"] == "./evil.example/"


def test_out_of_descriptors_is_503(tree, monkeypatch):
    def refuse(path, flags):
        raise OSError(errno.EMFILE, "Too many open files")

    files = StaticFiles("/", tree)
    monkeypatch.setattr(_static.os, "open", refuse)
    assert status(files, "/app.js") == 503


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tree):
    (tree / "app.js").chmod(0)
    assert status(StaticFiles("/", tree), "/app.js") == 404


@pytest.mark.parametrize("empty", ["", b"", os.environ.get("NO_SUCH_VARIABLE", "")])
def test_an_empty_name_is_not_the_current_directory(tree, empty, monkeypatch):
    monkeypatch.chdir(tree)
    with pytest.raises(ValueError, match=r"write '\.'"):
        StaticFiles("/", empty)
    assert fetch(StaticFiles("/", "."), "/app.js")[1] == b"1"


def test_headers_of_each_file(tree):
    files = StaticFiles("/", tree, iter([("Cache-Control", "no-cache"), ("X", "1")]))
    for path in ("/", "/app.js"):
        assert fetch(files, path)[0].headers[-2:] == (("Cache-Control", "no-cache"), ("X", "1"))
    for headers, error in (
        ({"X": "a\r\nb"}, ValueError),
        ({"Content-Type": "text/css"}, ValueError),
        ({"Content-Length": "1"}, ValueError),
        ({"X": 1}, TypeError),
        ("X: y", TypeError),
    ):
        with pytest.raises(error):
            StaticFiles("/", tree, headers)


def test_which_files_are_served(tree, monkeypatch):
    files = StaticFiles("/", tree)
    monkeypatch.chdir(tree)
    for name in ("app.js", "sub/index.html", ".well-known/x.txt", "not-there-yet"):
        assert files.serves(tree / name)
        assert files.serves(name)
    for name in (".env", ".git/config", "../secret.txt", "../root-sibling/secret.txt", "."):
        assert not files.serves(tree / name)


def test_the_directory_is_checked_at_once(tree):
    with pytest.raises(ValueError, match="not a directory"):
        StaticFiles("/", tree / "missing")
    with pytest.raises(ValueError, match="not a directory"):
        StaticFiles("/", tree / "app.js")
    with pytest.raises(TypeError):
        StaticFiles("/", 5)


def test_a_relative_directory_is_fixed_at_registration(tree, monkeypatch):
    monkeypatch.chdir(tree.parent)
    files = StaticFiles("/", "root")
    monkeypatch.chdir(tree)
    assert fetch(files, "/app.js")[1] == b"1"


@pytest.mark.parametrize("segment", ["c:", "a:b", "a.", "a ", "con:"])
def test_other_names_on_windows(segment, monkeypatch):
    monkeypatch.setattr(_static, "_WINDOWS", True)
    assert not _static._allowed(segment)


@pytest.mark.skipif(os.name == "nt", reason="there they are other names")
@pytest.mark.parametrize("name", ["a:b.txt", "a.", "a "])
def test_what_windows_forbids_are_names_elsewhere(tree, name):
    (tree / name).write_text("here")
    assert fetch(StaticFiles("/", tree), f"/{name}")[1] == b"here"


def test_a_path_that_the_system_cannot_look_up(tree, monkeypatch):
    files = StaticFiles("/", tree)

    def broken(path, **_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os.path, "realpath", broken)
    assert status(files, "/app.js") == 404
