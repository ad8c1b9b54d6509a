"""The same mathematics in fewer passes over memory: derivatives that are written down, kernels, recordings.

    layers.py   the critic's convolutions, whose second derivatives (Eq. 1's penalty) are cheap; the generator's layers
    norms.py    the critic's layer norm
    fused.py    the norm's passes over maps, compiled on a GPU
    graphs.py   critic updates that a GPU records once and replays

Nothing outside chooses among them; shapes, dtype and device do:

    what                      where                                          how
    critic's norm             GPU, samples of 65,536 numbers or more         rows: fused.py's passes, compiled
                              else bfloat16, or maps of one position         sums over the maps as they lie
                              else                                           torch's kernel
      second derivatives      as above, and on a CPU maps with an area       rows (on a CPU not compiled)
                              else                                           elementwise
    critic's convolutions     GAN-CNN, GAN-ATT: maps                         torch's kernels, derivatives of ours
                              GAN-1D: time                                   one matrix product (TapTimeConv)
    generator's batch norm    CPU, float32, one rank, in training            maps channels last, sums of ours
                              else                                           generator.networks.BatchNorm
    critic's update           GPU, one rank                                  the first ones as they are, then recorded
                              else                                           as it is
    any of them               shapes alone are counted ("meta")              torch's own layers

Two reasons are not speed: in GAN-1D no operation may round by the number of threads (devices.HelpfulThreads), and in
bfloat16 statistics stay in float32.
"""
