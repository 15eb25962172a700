# A process of this machine: the image lies where board.toml says that RAM begins, the rest below, all under 4 GB as on a
# board.
target_compile_definitions(firmware PRIVATE _GNU_SOURCE)
target_link_options(firmware PRIVATE -no-pie -Wl,--section-start=.parameters=${BOARD_ram_origin})
