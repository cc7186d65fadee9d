"""An open page of the browser tests."""

from dataclasses import dataclass, field


@dataclass
class Visit:
    """An open page, and what it asked for and complained about."""

    page: object
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def pictures(self):
        return [url for url in self.requests if url.endswith((".png", ".jpg"))]

    def shown(self):
        """Index of every card that is shown, in order."""
        return self.page.eval_on_selector_all(
            ".card", "cards => cards.map(card => Number(card.dataset.index))"
        )

    def opacity(self):
        script = "Number(getComputedStyle(document.querySelector('.map')).opacity)"
        self.page.wait_for_timeout(250)  # longer than its transition
        return self.page.evaluate(script)
