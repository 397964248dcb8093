"""Launch the app: `python app.py`. What it shows is in app/page.py; PTQ4DIT_MODEL names another model to explore."""

from app.server.environment import prepare


def main() -> None:
    """Serve the page, then load torch and the model behind it."""
    prepare()
    from app.page import build  # with gradio, which reads the environment as it is imported
    from app.server.launch import serve
    from app.services.warmup import warm_up_later

    warm_up_later()
    serve(build())


if __name__ == "__main__":
    main()
