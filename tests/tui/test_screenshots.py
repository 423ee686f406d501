from tests.screenshots.make_screenshots import self_contained


def test_a_picture_asks_no_server_for_its_font() -> None:
    face = '@font-face {\n src: url("https://cdn.example/x.woff2");\n }'
    svg = f"<style>{face}\n .m {{ font-family: Fira Code, monospace; }}</style>"

    assert "http" not in self_contained(svg)
    assert "DejaVu Sans Mono" in self_contained(svg)


def test_a_text_begins_where_its_first_letter_is() -> None:
    svg = '<text class="r1" x="12.2" y="20" textLength="48.8">&#160;&#160;ab</text>'

    assert self_contained(svg) == '<text class="r1" x="36.6" y="20" textLength="24.4">ab</text>'
