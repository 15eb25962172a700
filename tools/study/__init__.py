"""The study of docs/study.md: campaigns, what they show, and the page about it.

    python -m tools.study run [NAME ...]    run the campaigns, or those named; stopped, the same command goes on
    python -m tools.study costs [NAME ...]  count instructions on emulated cores
    python -m tools.study write             write docs/study.md and its pictures from the journals

Journals are kept in build/study. Pictures need the extra `study`.
"""
