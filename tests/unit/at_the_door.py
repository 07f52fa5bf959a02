"""What tests of the door share: signing in, and reading what was refused."""


def token_of(page):
    return page.text.split('name="csrf_token" value="')[1].split('"')[0]


def signed_in(browser, secret):
    token = token_of(browser.get("/login"))
    assert browser.post("/login", data={"key": secret, "csrf_token": token}).status_code == 303


def error_of(answer):
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "details"}
    for detail in error["details"]:
        assert set(detail) == {"where", "value", "rule", "next_step"}
    return error
