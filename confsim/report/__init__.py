"""What a run found: headline numbers, tables, figures, and a page. Reads runs, knows no models.

- ``summary``: headline numbers with intervals, which the commands print too;
- ``context``: what figures and tables are made from, each part read once and only when asked for;
- ``canvas``: sizes, colours and file formats of figures;
- ``figures``, ``lattice``, ``pictures``, ``attacks``, ``bins``, ``transfer``, ``groups``,
  ``classes``, ``training``, ``sweep``: the figures, each declared as ``registry`` says, with what
  returns ``None`` or the reason why it cannot be drawn;
- ``first``, ``sentences``: the first screen, the three sentences, and what to be careful about;
- ``explorer``: every example's figures, packed for the page;
- ``table``, ``tables``, ``evidence``, ``dictionary``: tables, with the meaning of every column;
- ``numbers``: as many digits as an interval supports;
- ``provenance``: what was run, and the command that repeats it;
- ``page``: ``report.html`` from a template;
- ``build``: all of it, for ``confsim-report``.

Matplotlib is used through its object-oriented API with the Agg canvas, and imported only here.
"""
