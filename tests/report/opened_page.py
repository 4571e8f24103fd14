"""A page in a browser, with the network cut off."""

from contextlib import contextmanager


@contextmanager
def opened_file(browser, file, ready, width=1200, **options):
    """A page without network; fails on any complaint in the console and any request but for files."""
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
    page = context.new_page()
    page.set_default_timeout(15000)
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.absolute().as_uri())
    page.wait_for_selector(ready)
    yield page
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    context.close()
