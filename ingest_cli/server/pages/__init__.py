"""The pages for browsers: which jobs there are, each job by itself, and what a visitor may do with it.

They are whole without their script, which keeps them up to date and sends bundles. They load nothing from elsewhere.
"""
