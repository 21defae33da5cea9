"""The documentation: pages for Sphinx, and what makes their generated parts."""
