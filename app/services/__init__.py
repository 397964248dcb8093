"""The app's only way to the engine: loads, caches, runs, reports progress. Nothing else in `app` imports `ptq4dit`."""
