"""Every parser of the mutation job by name."""

from tests.fuzz import images, sources, stored

PARSERS = {parser.name: parser for parser in (*images.PARSERS, *stored.PARSERS, *sources.PARSERS)}
