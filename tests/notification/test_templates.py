"""The words: every event in every language, safely, and the shop's own before ours."""

from pathlib import Path

import pytest

from orderstream.contract.errors import ConfigurationError
from orderstream.notification.rules import Kind
from orderstream.notification.templates import BadTemplate, Templates, nearest, sample

LANGUAGES = ["en", "ko", "ru", "tr"]


class TestOurs:
    def test_are_there_for_every_event_in_every_language(self) -> None:
        templates = Templates()
        assert templates.languages() == LANGUAGES
        templates.check()
        subjects = {templates.render(sample(k), lang).subject for k in Kind for lang in LANGUAGES}
        assert len(subjects) == len(Kind) * len(LANGUAGES)

    @pytest.mark.parametrize("language", LANGUAGES)
    @pytest.mark.parametrize("kind", list(Kind))
    def test_name_the_order_and_escape_what_came_from_outside(
        self, kind: Kind, language: str
    ) -> None:
        said = Templates().render(sample(kind), language)
        assert said.locale == language
        assert "100000001" in said.subject
        assert "\n" not in said.subject
        assert "<MUG>" not in said.html
        if kind in (Kind.CONFIRMED, Kind.REJECTED):
            assert "<MUG>" in said.text
            assert "&lt;MUG&gt;" in said.html

    def test_are_those_of_the_nearest_language(self) -> None:
        assert nearest("pt-BR") == ["pt-BR", "pt", "en"]
        assert nearest("zh_Hant_TW") == ["zh-Hant-TW", "zh-Hant", "zh", "en"]
        assert Templates().render(sample(Kind.FAILED), "tr-TR").locale == "tr"
        assert Templates().render(sample(Kind.FAILED), "xx").locale == "en"


class TestTheShopsOwn:
    def test_come_before_ours_file_by_file(self, tmp_path: Path) -> None:
        self.write(tmp_path, "de/confirmed.txt", "Hallo {{ order_id }}", "Danke, {{ user_id }}.")
        templates = Templates(tmp_path)
        templates.check()
        assert templates.render(sample(Kind.CONFIRMED), "de-AT").subject == "Hallo 100000001"
        assert templates.render(sample(Kind.FAILED), "de").locale == "en"

    @pytest.mark.parametrize(
        "text",
        [
            "{{ nobody }}",
            "{% if %}",
            "{{ 1 / 0 }}",
            "{{ items[9].sku }}",
            "{{ ''.__class__.__mro__ }}",
            "{{ order_id.__class__.__subclasses__() }}",
            "{% include '/etc/passwd' %}",
            "{% include '../../secret' %}",
        ],
    )
    def test_that_cannot_be_rendered_or_reach_out_are_named_at_the_start(
        self, tmp_path: Path, text: str
    ) -> None:
        self.write(tmp_path, "en/failed.txt", "x", text)
        templates = Templates(tmp_path)
        with pytest.raises(ConfigurationError, match=r"ORDERSTREAM_TEMPLATES: en/failed\.txt"):
            templates.check()
        with pytest.raises(BadTemplate):
            templates.render(sample(Kind.FAILED), "en")

    def test_is_looked_at_for_every_reason(self, tmp_path: Path) -> None:
        other = "{% if reason == 'OUT_OF_STOCK' %}ok{% else %}{{ nobody }}{% endif %}"
        self.write(tmp_path, "en/rejected.txt", "x", other)
        with pytest.raises(ConfigurationError, match="nobody"):
            Templates(tmp_path).check()

    @staticmethod
    def write(folder: Path, name: str, subject: str, text: str) -> None:
        path = folder / name
        path.parent.mkdir(parents=True)
        said = f"{{% set subject %}}{subject}{{% endset %}}{{% set text %}}{text}{{% endset %}}"
        path.write_text(said)
