FROM unnest({task_ids}::text[], {task_parameters}::text[], {biz_ids}::text[], {metas}::text[], {versions}::bigint[])
    AS r(task_id, task_parameter, biz_id, meta, version)
