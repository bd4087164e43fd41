"""What the pages share: texts become HTML as bottle makes them, in every template."""

from __future__ import annotations

import bottle
from hypothesis import given
from hypothesis import strategies as st

from device_ui.web import site

MARKUP = st.text(st.sampled_from("&<>\"'ax ;é경\0\n") | st.characters(), max_size=40)


@given(MARKUP)
def test_escaping_is_bottles(text):
    assert site.escaped(text) == bottle.html_escape(text)


@given(MARKUP)
def test_a_template_is_bottles(text):
    source = """<p title="{{text}}">{{text}}</p>{{!text}}"""
    assert site.Template(source).render(text=text) == bottle.SimpleTemplate(source).render(text=text)


def test_every_template_is_of_this_kind():
    assert type(site.template("error")) is site.Template  # and bottle makes what it includes of its own class
