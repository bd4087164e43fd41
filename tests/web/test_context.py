"""What the pages share: texts become HTML as bottle makes them, in every template."""

from __future__ import annotations

import bottle
from hypothesis import given
from hypothesis import strategies as st

from device_ui.web import templates

MARKUP = st.text(st.sampled_from("&<>\"'ax ;é경\0\n") | st.characters(), max_size=40)


@given(MARKUP)
def test_escaping_is_bottles(text):
    assert templates.escaped(text) == bottle.html_escape(text)


@given(MARKUP)
def test_a_template_is_bottles(text):
    source = """<p title="{{text}}">{{text}}</p>{{!text}}"""
    assert templates.Template(source).render(text=text) == bottle.SimpleTemplate(source).render(text=text)


def test_every_template_is_of_this_kind():
    assert type(templates.template("error")) is templates.Template  # and bottle makes what it includes of its own class


def test_what_pages_include_is_compiled_once_for_all_of_them():
    assert templates.template("smtp").cache is templates.template("login").cache
    layout = templates.template("layout")
    assert templates.template("smtp").cache["layout.tpl"] is layout
