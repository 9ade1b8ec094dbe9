"""Every parser of the mutation job by name."""

from tests.fuzz import betons, images, sources, stored

PARSERS = {parser.name: parser for parser in (*images.PARSERS, *stored.PARSERS, *betons.PARSERS, *sources.PARSERS)}
