"""The experiment engine, by folder.

A command line (``console``, ``commands``) gives settings (``settings``); they become a graph of stages (``planning``; of language
models: ``text``); what each kind of stage computes is in ``stages``. The files beside this one are the core: what a stage and
its key are, where results lie, and what runs them (``jobs``: on Slurm). Numbers of finished stages are put side by side in
``comparison`` and shown by ``reporting``. ``benchmarks`` are measured by hand, outside of experiments.
"""
