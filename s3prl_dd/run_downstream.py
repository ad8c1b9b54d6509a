"""`python -m s3prl_dd.run_downstream`: S3PRL's run_downstream, with s3prl_dd's downstreams and upstreams."""

from .plugin.launcher import main

if __name__ == "__main__":
    main()
