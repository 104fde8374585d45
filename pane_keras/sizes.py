"""Sizes in memory and on disk, in words."""


def size(count):
    """Returns a number of bytes in words, such as "12 B" or "3.5 MiB"."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = min(max(int(count).bit_length() - 1, 0) // 10, len(units) - 1)
    scaled = count / 1024**power
    return (
        f"{scaled:.3g} {units[power]}" if scaled < 1000 or power == len(units) - 1 else f"{scaled:.0f} {units[power]}"
    )
