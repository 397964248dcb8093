"""Launch the app: `python app.py`. What it shows is in app/page.py; PTQ4DIT_MODEL names another model to explore."""

from app.page import build
from app.services import models
from app.theme import launch_options


def main() -> None:
    """Serve the page, then load torch and the model behind it."""
    models.warm_up_later()
    build().launch(**launch_options())


if __name__ == "__main__":
    main()
