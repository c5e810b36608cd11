"""Entry point of the Flex Template launcher: runs the pipeline that the image is built for.

Workers run the image of the launcher, so that both have the same code.
"""

import os
import sys
from importlib import import_module

from pipelines.launch.template_arguments import arguments

if __name__ == "__main__":
    stage = import_module(f"pipelines.{os.environ['PIPELINE']}").STAGE
    image = f"--sdk_container_image={os.environ['IMAGE']}"
    sys.exit(stage.main([image, *arguments(stage, sys.argv[1:])]))
