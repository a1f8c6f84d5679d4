"""Stacked bars as SVG, with their legend. Plain shapes and text, readable on white and on black."""

from html import escape

WIDTH, LEFT, RIGHT, BAR, GAP, LINE = 960, 230, 90, 30, 16, 20
# Of one colour family for each side: the host, the container, the browser.
COLOURS = ("#1f4e79", "#2e75b6", "#5b9bd5", "#548235", "#70ad47", "#8497b0", "#843c0c", "#c55a11", "#ed7d31", "#f4b183")
GREY = "#808080"


def bars(title, stretches, rows):
    """`stretches`: what each part of a bar is, in order; `rows`: [(name, [milliseconds of each part])]."""
    longest = max(sum(parts) for _, parts in rows)
    scale = (WIDTH - LEFT - RIGHT) / longest
    top = 40
    shapes = [text(0, 20, title, weight="bold", size=16)]
    for number, (name, parts) in enumerate(rows):
        y = top + number * (BAR + GAP)
        shapes.append(text(LEFT - 10, y + BAR * 0.65, name, anchor="end"))
        x = LEFT
        for part, colour in zip(parts, COLOURS):
            width = max(part, 0) * scale
            shapes.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>')
            if width > 34:
                shapes.append(text(x + width / 2, y + BAR * 0.65, f"{part:.0f}", anchor="middle", colour="#ffffff"))
            x += width
        shapes.append(text(x + 6, y + BAR * 0.65, f"{sum(parts):,.0f} ms"))
    y = top + len(rows) * (BAR + GAP) + 10
    for number, (what, colour) in enumerate(zip(stretches, COLOURS)):
        at = LEFT + (number % 2) * (WIDTH - LEFT) / 2, y + number // 2 * LINE
        shapes.append(f'<rect x="{at[0]:.0f}" y="{at[1]:.0f}" width="12" height="12" fill="{colour}"/>')
        shapes.append(text(at[0] + 18, at[1] + 11, what))
    height = y + (len(stretches) + 1) // 2 * LINE + 10
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" role="img" aria-label="{escape(title)}">'
    return "\n".join([head, *shapes, "</svg>\n"])


def text(x, y, what, anchor="start", weight="normal", size=13, colour=GREY):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{colour}">{escape(what)}</text>'
