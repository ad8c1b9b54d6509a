"""What a generator file says of the data behind it."""

from support.gauss import PARTS, tiny_config, tiny_data


def test_the_header_has_no_names_of_speakers():
    config, data = tiny_config(), tiny_data()
    header = PARTS.header(config.network.sized(3, data.dim), data, config)
    assert header.corpus == PARTS.corpus.hiding_names() != PARTS.corpus
    assert '"s1"' not in header.to_json()
