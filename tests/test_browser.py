"""The example page in a browser: headless Chromium, driven by playwright-core."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.example_site import COMMANDS, serve
from tests.gates import Gated, cut, stream
from tests.node import Node, missing
from tests.provider import Answer, Provider
from tests.servers import SECONDS
from tests.wires import EVENTS, ChatCompletions

WIRE = ChatCompletions()
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Where set, each test leaves pictures there for a person to look at.
PICTURES = os.environ.get("BUPPLE_PICTURES_DIR")

pytestmark = [
    pytest.mark.servers,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.skipif(missing("playwright-core") is not None, reason=str(missing("playwright-core"))),
]


@pytest.fixture
def provider(shared_provider: Provider) -> Provider:
    """Give the provider, which has been asked nothing yet."""
    shared_provider.forget()
    return shared_provider


@pytest.fixture(scope="module")
def launch(
    shared_provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], str]]:
    """Give a function that starts the site on a server, once in the module, and returns its address."""
    with ExitStack() as ended:
        folder = tmp_path_factory.mktemp
        yield cache(lambda name: ended.enter_context(serve(name, shared_provider.url, folder("site"))))


@pytest.fixture(scope="module")
def browser() -> Iterator[Node]:
    """Give a browser, which keeps nothing from test to test."""
    assert CHROMIUM is not None
    with Node("browser.mjs", CHROMIUM) as node:
        yield node


class Page:
    """The example page, as one sees it."""

    def __init__(self, browser: Node, url: str) -> None:
        self.browser, self.url = browser, url

    def open(self, **screen: Any) -> None:
        """Open the page in a new browser, and sign in as a visitor."""
        self.screen = "-".join(map(str, screen.values())) or "desktop"
        self.run("await open(url, screen)", url=self.url, screen=screen)
        self.picture("sign-in")
        self.run("await page.getByRole('button', {name: 'Continue as a visitor'}).click()")
        self.run("await page.getByRole('textbox', {name: 'Your message'}).waitFor()")

    def run(self, code: str, **values: Any) -> Any:
        """Have the browser's driver do something; where it fails, tell what the page shows."""
        try:
            return self.browser.run(code, **values)
        except AssertionError as error:
            url, text = self.browser.run("return [page.url(), await page.locator('body').innerText()]")
            error.add_note(f"{url} shows: {text}\nIts faults: {self.faults}")
            raise

    def say(self, text: str) -> None:
        """Write a message, and send it."""
        self.run("await page.getByRole('textbox', {name: 'Your message'}).fill(text)", text=text)
        self.click("Send")

    def click(self, name: str) -> None:
        """Click a button."""
        self.run("await page.getByRole('button', {name, exact: true}).click()", name=name)

    def wait_for(self, selector: str, text: str) -> None:
        """Wait until the last such element has this text, whole."""
        code = """
            await page.waitForFunction(
                ([selector, text]) => [...document.querySelectorAll(selector)].at(-1)?.textContent === text,
                [selector, text],
            )
        """
        self.run(code, selector=selector, text=text)

    def wait_for_end(self) -> str:
        """Wait until the answer has ended; return what is said below it."""
        self.run("await page.getByRole('button', {name: 'Send'}).waitFor()")
        return str(self.run("return await page.locator('article').last().locator('footer').textContent()"))

    @property
    def turns(self) -> list[str]:
        """Return what was said, by turns."""
        found: list[str] = self.run("return await page.locator('article .content').allTextContents()")
        return found

    @property
    def error(self) -> str:
        """Wait for an error, and return it."""
        return str(self.run("return await page.locator('article .error span:visible').textContent()"))

    @property
    def faults(self) -> list[str]:
        """Return what the browser complained of: errors, warnings, what the security policy forbids."""
        found: list[str] = self.run("return faults")
        return found

    def picture(self, name: str) -> None:
        """Take a picture, where they are wanted."""
        if PICTURES:
            self.run("await page.screenshot({path})", path=str(Path(PICTURES, f"{name}-{self.screen}.png")))


@pytest.fixture(params=["runserver"])
def page(request: pytest.FixtureRequest, browser: Node, launch: Callable[[str], str]) -> Page:
    """Give the page, open and signed in."""
    page = Page(browser, launch(request.param))
    page.open()
    return page


in_both_worlds = pytest.mark.parametrize("page", COMMANDS, indirect=True)


@in_both_worlds
def test_an_answer_is_seen_as_it_is_written(page: Page, provider: Provider) -> None:
    gated = Gated("one ", "two ", "three")
    provider.answer(gated.answer)
    page.picture("welcome")
    page.say("Count to three")
    for text in ("one ", "one two ", "one two three"):
        page.wait_for(".assistant .content", text)
        if text == "one two ":
            page.picture("writing")
        gated.next()
    assert page.wait_for_end().startswith("gpt-6-luna · 7 tokens · ")
    assert page.turns == ["Count to three", "one two three"]
    assert page.faults == []


def test_a_conversation_goes_on_and_outlives_a_reload(page: Page, provider: Provider) -> None:
    provider.answer(stream("one", reasoning=["Let me see"]), stream("two"), stream("three"))
    page.say("Count")
    footer = page.wait_for_end()
    page.say("Go on")
    page.wait_for_end()
    for _ in range(2):
        assert page.turns == ["Count", "one", "Go on", "two"]
        assert page.run("return await page.locator('footer').nth(1).textContent()") == footer
        assert page.run("return await page.locator('.reasoning p').nth(1).textContent()") == "Let me see"
        page.run("await page.reload()")
    page.picture("restored")
    page.say("And on")
    page.wait_for_end()
    assert WIRE.prompt(provider.requests[2]) == [
        ("user", "Count"),
        ("assistant", "one"),
        ("user", "Go on"),
        ("assistant", "two"),
        ("user", "And on"),
    ]
    page.click("New chat")
    assert page.turns == []
    page.run("await page.reload()")
    assert page.turns == []
    assert page.faults == []


def test_a_reload_keeps_what_was_written_and_ends_the_call(page: Page, provider: Provider) -> None:
    provider.answer(thoughtful("one "))
    page.say("Count")
    page.wait_for(".assistant .content", "one ")
    page.run("await page.reload()")
    assert page.turns == ["Count", "one "]
    assert page.wait_for_end() == "Stopped"
    provider.wait_closed(provider.requests[0].connection, SECONDS)


@in_both_worlds
@pytest.mark.parametrize("how", ["button", "key"])
def test_stop_ends_the_call_and_keeps_what_was_written(how: str, page: Page, provider: Provider) -> None:
    provider.answer(thoughtful("one "), stream("two"))
    page.say("Count")
    page.wait_for(".assistant .content", "one ")
    if how == "button":
        page.click("Stop")
    else:
        page.run("await page.keyboard.press('Escape')")
    assert page.wait_for_end() == "Stopped"
    assert page.run("return await page.evaluate(() => document.activeElement.id)") == "text"
    provider.wait_closed(provider.requests[0].connection, SECONDS)
    page.say("Go on")
    page.wait_for(".assistant .content", "two")
    assert page.turns == ["Count", "one ", "Go on", "two"]
    assert page.faults == []


def test_nothing_is_sent_before_the_script_is_there(page: Page, provider: Provider) -> None:
    provider.answer(stream("one"))
    page.run("await page.route('**/chat.js', (route) => { globalThis.held = route; })")
    page.run("await page.reload({waitUntil: 'commit'})")
    page.run("await page.getByRole('textbox', {name: 'Your message'}).fill('Count')")
    buttons = "return await page.getByRole('button', {disabled: true}).allTextContents()"
    assert page.run(buttons) == [
        "New chat",
        "Write a short poem about the sea",
        "Explain to a child why the sky is blue",
        "What is the capital of Japan?",
        "Send",
    ]
    page.run("await held.continue()")
    page.click("Send")
    page.wait_for(".assistant .content", "one")
    assert page.turns == ["Count", "one"]
    assert page.run(buttons) == []
    assert page.faults == []


def test_an_error_before_the_answer_is_shown(page: Page, provider: Provider) -> None:
    status, headers, body = WIRE.error("auth")
    provider.answer(Answer(status, headers, body), stream("At last"))
    page.say("Hello")
    message, reference = page.error.split("\n")
    assert message == "The AI provider refused this site's credentials."
    assert reference.startswith("The server's log has more under ")
    page.picture("error")
    page.click("Try again")
    page.wait_for(".assistant .content", "At last")
    assert page.turns == ["Hello", "At last"]
    (fault,) = page.faults
    assert fault.startswith("Failed to load resource: the server responded with a status of 502")


def test_an_error_within_the_answer_is_shown_below_it(page: Page, provider: Provider) -> None:
    provider.answer(cut("one ", "two"), stream("three"))
    page.say("Count")
    assert page.error.startswith("The answer was cut off before its end.")
    assert page.turns == ["Count", "one two"]
    page.picture("cut")
    page.run("await page.reload()")
    assert page.error.startswith("The answer was cut off before its end.")
    page.click("Try again")
    page.wait_for(".assistant .content", "three")
    assert page.turns == ["Count", "three"]
    assert page.faults == []


def test_who_is_signed_out_is_told_so(page: Page, provider: Provider) -> None:
    page.run("await page.context().clearCookies({name: 'sessionid'})")
    page.say("Hello")
    assert page.error == "Authentication credentials were not provided."
    page.click("Sign in")
    page.run("await page.getByRole('heading', {name: 'Sign in'}).waitFor()")
    assert provider.requests == []


def test_the_next_user_sees_nothing_of_it(page: Page, provider: Provider) -> None:
    provider.answer(stream("one"))
    page.say("Count")
    page.wait_for(".assistant .content", "one")
    page.run("await page.context().clearCookies({name: 'sessionid'})")
    page.run("await page.reload()")
    page.click("Continue as a visitor")
    page.run("await page.getByRole('heading', {name: 'Ask anything'}).waitFor()")
    assert page.turns == []
    page.click("Sign out")
    page.run("await page.getByRole('heading', {name: 'Sign in'}).waitFor()")
    assert page.run("return await page.evaluate(() => sessionStorage.conversation)") is not None
    assert page.faults == []


def test_a_wrong_password_is_told(page: Page) -> None:
    page.click("Sign out")
    page.run("await page.getByLabel('Username').fill('ada')")
    page.run("await page.getByLabel('Password').fill('wrong')")
    page.click("Sign in")
    text = page.run("return await page.getByRole('alert').textContent()")
    assert "Please enter a correct username and password." in text
    page.picture("wrong-password")
    assert page.faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_the_screen(scheme: str, page: Page, provider: Provider) -> None:
    page.open(width=390, height=844, colorScheme=scheme)
    provider.answer(stream("A word of " + "many" * 50 + " letters.\n\n    " + "A line. " * 40), cut("one"))
    page.picture("welcome")
    for text in ("x" * 300, "And a cut one"):
        page.say(text)
        page.wait_for_end()
        wide = page.run("return await page.evaluate(() => document.documentElement.scrollWidth)")
        assert wide == 390
    page.picture("conversation")
    assert page.run("return await page.evaluate(() => document.querySelector('#page').scrollWidth)") == 390
    assert page.faults == []


def thoughtful(text: str) -> Answer:
    """Answer with a text, then think aloud: under WSGI a server learns by writing who has left."""
    thought = b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"."}}]}\n\n'
    more: list[Any] = [thought, 0.05] * 1000
    return Answer(headers=EVENTS, pieces=[WIRE.stream_without_end([text]), *more])
