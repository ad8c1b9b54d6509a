"""S3PRL's literal command, here: python run_downstream.py -m train -d distilled_emotion -u hubert ..."""
from s3prl_dd.plugin.launcher import main

if __name__ == "__main__":
    main()
