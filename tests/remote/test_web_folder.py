"""Names in a web server's index of a folder: as Apache, nginx and Python's server write one, and in what is none."""

import pytest

from fastload.errors import DataError
from fastload.remote.origin import Refused
from fastload.remote.web_folder import list_web_folder

URL = "https://host/a%20b/data?key=1"
# mod_autoindex of Apache 2.4, the module of nginx 1.24, http.server of Python 3.11.
APACHE = """<html><head><title>Index of /a b/data</title></head><body><h1>Index of /a b/data</h1><table>
<tr><th><a href="?C=N;O=D">Name</a></th><th><a href="?C=M;O=A">Last modified</a></th></tr>
<tr><td><a href="/a%20b/">Parent Directory</a></td><td>&nbsp;</td></tr>
<tr><td><a href="cats%20%26%20dogs/">cats &amp; dogs/</a></td><td align="right">2024-01-01 10:00</td></tr>
<tr><td><a href="one%231.jpg">one#1.jpg</a></td></tr></table><address>Apache</address></body></html>\n"""
NGINX = """<html>\r\n<head><title>Index of /</title></head>\r\n<body>\r\n<h1>Index of /</h1><hr><pre>
<a href="../">../</a>
<a href="cats%20%26%20dogs/">cats &amp; dogs/</a>    01-Jan-2024 10:00       -
<a href="one%231.jpg">one#1.jpg</a>     01-Jan-2024 10:00     12\r\n</pre><hr></body>\r\n</html>\r\n"""
INNER = '<ul><li><a href="https://host/a%20b/data/cats%20%26%20dogs/%C3%A9.jpg">x</a></ul></HTML>'


@pytest.mark.parametrize("page", [APACHE, NGINX], ids=["Apache", "nginx"])
def test_names_are_those_of_the_links_to_what_lies_in_the_folder(page):
    pages = {
        "https://host/a%20b/data/?key=1": page.encode(),
        "https://host/a%20b/data/cats%20%26%20dogs/?key=1": INNER.encode(),
    }
    assert list_web_folder(URL, pages.__getitem__, deep=True) == ["one#1.jpg", "cats & dogs/é.jpg"]
    assert list_web_folder(URL, pages.__getitem__, deep=False) == ["cats & dogs/", "one#1.jpg"]


def test_links_that_lead_elsewhere_are_no_entries():
    elsewhere = ["../x.jpg", "/etc/passwd", "https://other:99999/", "http://[", "a/../../y", "./", ".", "..", "%2e%2e/"]
    elsewhere += ["#top", "a/b.jpg", "a%2Fb.jpg", "x.jpg?download", "x%00.jpg", "mailto:a@b", "javascript:0"]
    page = "".join(f'<a href="{link}">x</a>' for link in [*elsewhere, "good.jpg"]) + "<a>x</a></html>"
    assert list_web_folder("https://host/data", lambda url: page.encode(), deep=True) == ["good.jpg"]


def test_a_page_that_was_cut_short_is_asked_for_again():
    pages = iter([APACHE[:-60].encode(), b"", b"<html>", INNER.encode().replace(b"a%20b/data/cats%20%26%20dogs", b"d")])
    assert list_web_folder("https://host/d", lambda url: next(pages), deep=False) == ["é.jpg"]
    with pytest.raises(DataError, match="no complete page that lists it"):
        list_web_folder("https://host/d", lambda url: b"x" * 1000, deep=False)


def test_folders_that_lead_round_in_circles_end():
    assert list_web_folder("https://host/d", lambda url: b'<a href="again/"></a></html>', deep=True) == []


def test_a_server_without_an_index_is_told():
    def refuse(url):
        raise Refused("the server answered 403 Forbidden", path=url)

    with pytest.raises(DataError, match=r"does not list the folder \(the server answered 403 Forbidden\): name its"):
        list_web_folder("https://host/d", refuse, deep=True)
