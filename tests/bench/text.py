"""Numbers and tables as text."""

# Of a figure without an aim.
KEEP = "keep"


def table(head, *rows):
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def quarters(spread, digits, sign=""):
    number = lambda value: f"{value:{sign},.{digits}f}"
    return f"{number(spread['median'])} [{number(spread['low'])} to {number(spread['high'])}]"


def mb(kilobytes, digits=1):
    return f"{kilobytes * 1024 / 1e6:.{digits}f}"


def kb(size):
    return f"{size / 1000:,.0f}"
