"""The section of slides: where attention lies on thumbnails, where there are any."""

from orchestrator.report_material import Material
from orchestrator.report_parts import Section


def sections(material: Material) -> list[Section]:
    """Make the section; none where no attention was kept or no thumbnail is there."""
    return []
