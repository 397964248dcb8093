"""Launch the app: `python app.py`. What it shows is in app/page.py; PTQ4DIT_MODEL names another model to explore."""

from app.page import build
from app.services.warmup import warm_up_later
from app.theme import launch_options


def main() -> None:
    """Serve the page, then load torch and the model behind it."""
    warm_up_later()
    build().launch(**launch_options())


if __name__ == "__main__":
    main()
