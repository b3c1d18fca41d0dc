"""Spellings of paths, by what they are taken for."""

# Spellings in which proxies and servers find another path than the one that is written.
AMBIGUOUS = [
    # separators that are encoded
    "/priv%2fx",
    "/priv%2Fx",
    "/%2fpriv/x",
    "/priv/x%2f",
    "%2fpriv",
    "/a%2f..%2fpriv/x",
    # backslashes
    "/priv%5cx",
    "/priv%5Cx",
    "/priv\\x",
    "/..\\x",
    "/%5c%5cevil/x",
    # dot segments
    "/..",
    "/.",
    "/../priv",
    "/open/../priv/x",
    "/priv/x/../../open",
    "/priv/./x",
    "/./priv/x",
    "/priv/..",
    "/priv/.",
    "//x/../chat",
    "/open/%2e%2e/priv/x",
    "/open/%2E%2e/priv/x",
    "/open/.%2e/priv/x",
    "/open/%2e./priv/x",
    "/priv/%2e/x",
    "/%2e%2e%2fpriv",
    "/..%2fpriv",
    "/..%5cpriv",
    # what ends a string in C
    "/priv%00",
    "/priv/x%00.txt",
    "/%00",
]

# Spellings that all take for one path, which is the one that is written.
PLAIN = {
    "/": "/",
    "/priv/x": "/priv/x",
    "/priv%20x": "/priv x",
    "/pr%69v/x": "/priv/x",
    "/%c3%bc": "\xfc",
    "/a.b/.c/d./...": "/a.b/.c/d./...",
    "/.../x": "/.../x",
    "/..;/x": "/..;/x",
    "/priv;a=1/x": "/priv;a=1/x",
    "//priv//x": "//priv//x",
    "/priv/": "/priv/",
    "/%252e%252e/x": "/%2e%2e/x",  # decoded once
    "/priv%252fx": "/priv%2fx",
    "/a%3fb%23c": "/a?b#c",
    "/100%": "/100%",
    "/%zz": "/%zz",
    "/PRIV": "/PRIV",
}
PLAIN["/%c3%bc"] = "/\xfc"

NOT_UTF8 = ["/..%c0%afx", "/%c0%ae%c0%ae/x", "/%ff", "/%ed%a0%80", "/%e2%82"]
