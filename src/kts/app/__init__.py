"""Where the parts are put together: what the Python API (`kts.__all__`) and the command line do.

One file per capability. Names are loaded on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kts.app.beside import predict_beside
    from kts.app.catalog import experiment_text, experiments, schema
    from kts.app.checking import append_summary, check, check_pair, preview_pair, write_junit
    from kts.app.choosing import choose, predict_choice, run_to_choose
    from kts.app.cluster import attach, clean, cluster_runs, collect, profile_on_cluster, run_on_cluster
    from kts.app.comparisons import compare, pool
    from kts.app.explanations import explain
    from kts.app.exporter import exporter_in_pods, exporter_url
    from kts.app.fingerprints import folder, kept_fingerprints, probe, who
    from kts.app.fleet_runs import attach_fleet, fleet_in_cluster, run_fleet
    from kts.app.fleets import FleetRun, is_fleet, load_fleet
    from kts.app.handle import Run, finished, load, report
    from kts.app.images import build_image, image_name, prune_images, render
    from kts.app.inputs import Given
    from kts.app.instrument import selfcheck_here
    from kts.app.machine import cluster_checks, local_checks
    from kts.app.measuring import replay, run
    from kts.app.plans import Changes, Preview, experiment_of, preview
    from kts.app.predictions import predict, whatif
    from kts.app.printing import show
    from kts.app.profiles import profile
    from kts.app.selfchecks import selfcheck
    from kts.app.validation import validate
    from kts.app.watch_cluster import install_watching, remove_watching, render_watching, watch_image
    from kts.app.watched import WatchRun, explain_watch, is_watch, load_watch
    from kts.app.watching import WatchAsked, screen, serve_watch, watch

__all__ = [
    "Changes",
    "FleetRun",
    "Given",
    "Preview",
    "Run",
    "WatchAsked",
    "WatchRun",
    "append_summary",
    "attach",
    "attach_fleet",
    "build_image",
    "check",
    "check_pair",
    "choose",
    "clean",
    "cluster_checks",
    "cluster_runs",
    "collect",
    "compare",
    "experiment_of",
    "experiment_text",
    "experiments",
    "explain",
    "explain_watch",
    "exporter_in_pods",
    "exporter_url",
    "finished",
    "fleet_in_cluster",
    "folder",
    "image_name",
    "install_watching",
    "is_fleet",
    "is_watch",
    "kept_fingerprints",
    "load",
    "load_fleet",
    "load_watch",
    "local_checks",
    "pool",
    "predict",
    "predict_beside",
    "predict_choice",
    "preview",
    "preview_pair",
    "probe",
    "profile",
    "profile_on_cluster",
    "prune_images",
    "remove_watching",
    "render",
    "render_watching",
    "replay",
    "report",
    "run",
    "run_fleet",
    "run_on_cluster",
    "run_to_choose",
    "schema",
    "screen",
    "selfcheck",
    "selfcheck_here",
    "serve_watch",
    "show",
    "validate",
    "watch",
    "watch_image",
    "whatif",
    "who",
    "write_junit",
]

_HOME = {
    "beside": ("predict_beside",),
    "catalog": ("experiment_text", "experiments", "schema"),
    "checking": ("append_summary", "check", "check_pair", "preview_pair", "write_junit"),
    "choosing": ("choose", "predict_choice", "run_to_choose"),
    "cluster": ("attach", "clean", "cluster_runs", "collect", "profile_on_cluster", "run_on_cluster"),
    "comparisons": ("compare", "pool"),
    "explanations": ("explain",),
    "exporter": ("exporter_in_pods", "exporter_url"),
    "fingerprints": ("folder", "kept_fingerprints", "probe", "who"),
    "fleet_runs": ("attach_fleet", "fleet_in_cluster", "run_fleet"),
    "fleets": ("FleetRun", "is_fleet", "load_fleet"),
    "handle": ("Run", "finished", "load", "report"),
    "images": ("build_image", "image_name", "prune_images", "render"),
    "inputs": ("Given",),
    "instrument": ("selfcheck_here",),
    "machine": ("cluster_checks", "local_checks"),
    "measuring": ("replay", "run"),
    "plans": ("Changes", "Preview", "experiment_of", "preview"),
    "predictions": ("predict", "whatif"),
    "printing": ("show",),
    "profiles": ("profile",),
    "selfchecks": ("selfcheck",),
    "validation": ("validate",),
    "watched": ("WatchRun", "explain_watch", "is_watch", "load_watch"),
    "watching": ("WatchAsked", "screen", "serve_watch", "watch"),
    "watch_cluster": ("install_watching", "remove_watching", "render_watching", "watch_image"),
}


def __getattr__(name: str) -> Any:
    module = next((module for module, names in _HOME.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    globals()[name] = value = getattr(import_module(f"{__name__}.{module}"), name)
    return value
